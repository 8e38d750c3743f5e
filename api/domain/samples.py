"""The pictures that a training draws at each of its checkpoints, so that one sees it learn."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

MAX_PROMPTS = 8
DEFAULT_PROMPTS = 2
MAX_PROMPT_CHARACTERS = 500
MAX_SIDE = 1024
GUIDANCE = 3.5
"""Flux's distilled guidance, as pictures have it unless they ask for another."""
TAG = "sample"
"""Of every such picture in the gallery."""

_FILE = re.compile(r"step_(\d+)_p(\d+)_0_(\d+)x(\d+)\.(?:png|webp|jpg)")


def default_prompts(trigger_word: str | None, captions: Iterable[str]) -> list[str]:
    """What to draw where nobody said it: the trigger word in new places, else what the first captions describe."""
    if trigger_word:
        return [f"a photo of {trigger_word}", f"{trigger_word} by a lake in the mountains"]
    lines = (caption.strip().partition("\n")[0].strip() for caption in captions)
    told = dict.fromkeys(line for line in lines if line and line.isprintable() and len(line) <= MAX_PROMPT_CHARACTERS)
    return list(told)[:DEFAULT_PROMPTS]


def side(resolution: int) -> int:
    """Of the square that is drawn, in pixels."""
    return min(resolution, MAX_SIDE)


def label(position: int) -> str:
    """What the trainer calls the prompt at this position, in its file names, too."""
    return f"p{position}"


@dataclass(frozen=True, slots=True, order=True)
class SampleName:
    """What the name of a picture says that the trainer has saved."""

    step: int
    position: int
    """Of its prompt."""
    width: int
    height: int
    """Of the picture itself; below it in the file is a band with the prompt."""


def parse_name(name: str) -> SampleName | None:
    """None for a file that is none of these."""
    found = _FILE.fullmatch(name)
    return SampleName(*(int(number) for number in found.groups())) if found else None
