"""What pictures are found by: their texts as words, each behind a letter that says where it stands."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

MAX_WORD_CHARACTERS = 64
_WORD = re.compile(r"[^\W_]+")


class Place(StrEnum):
    PROMPT = "p"
    NEGATIVE_PROMPT = "n"
    TAG = "t"
    WORKFLOW = "w"
    LORA = "l"
    BASE_MODEL = "b"


EVERYWHERE = (Place.PROMPT, Place.NEGATIVE_PROMPT, Place.TAG, Place.WORKFLOW)
"""Where a search looks that names no place."""


def words(text: str) -> list[str]:
    """The words of a text, each once: letters and digits alone, whatever their case or width."""
    return list(dict.fromkeys(word[:MAX_WORD_CHARACTERS] for word in _runs(text)))


def token(name: str) -> str:
    """A name or an id as one word."""
    return "".join(_runs(name))[:MAX_WORD_CHARACTERS]


def _runs(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()))


def document(
    *, prompt: str, negative_prompt: str, tags: Sequence[str], model_id: object, config: Mapping[str, Any]
) -> str:
    """All that a picture is found by, as words with a space before and after each."""
    stack = (*config.get("loras", ()), *config.get("fixed_loras", ()))
    loras = {str(lora["model_id"]) for lora in stack if "model_id" in lora}  # one from the canvas is only a file
    loras |= set() if model_id is None else {str(model_id)}
    found = [
        *_placed(Place.PROMPT, words(prompt)),
        *_placed(Place.NEGATIVE_PROMPT, words(negative_prompt)),
        *_placed(Place.TAG, words(" ".join(tags))),
        *_placed(Place.WORKFLOW, words(str(config.get("workflow", "")))),
        *_placed(Place.LORA, map(token, sorted(loras))),
        *_placed(Place.BASE_MODEL, [token(str(config.get("base_model", "")))]),
    ]
    return f" {' '.join(found)} "


def _placed(place: Place, found: Iterable[str]) -> Iterable[str]:
    return (f"{place}{word}" for word in found if word)
