"""The drawn pictures of a training, kept on disk as arrays: about a millisecond each to draw, none to read.

Every block of pictures has a seed of its own (`scene-0`, `scene-1`, ...), so a larger pool begins with the smaller one.
"""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from PIL import Image

from api.selftest.scenes import Scene, scene
from api.selftest.shapes import LARGE_SIDE
from api.selftest.training.lexicon import word_scene
from api.selftest.training.pictures import doodle, faced

Pictures = NDArray[np.uint8]
"""Number, height, width, channels."""

BLOCK = 500
HELD_OUT_BLOCK = 1_000_000
"""Blocks from this number on are never trained on."""

_CAPTIONED: Mapping[str, Callable[[random.Random], Scene]] = {
    "scene": scene,
    "large": partial(scene, side=LARGE_SIDE),
    "word": word_scene,
}
_PAINTERS: Mapping[str, Callable[[random.Random], Image.Image]] = {"faced": faced, "doodle": doodle}
KINDS = (*_CAPTIONED, *_PAINTERS)
SHARES: Mapping[str, float] = {"scene": 1, "large": 1 / 4, "word": 1 / 8, "faced": 1 / 3, "doodle": 1 / 3}
"""How many of each kind there are for one scene."""


@dataclass(frozen=True, slots=True)
class Caption:
    """What is said of a scene, and the named subject that it shows, if any."""

    text: str
    colour: str | None
    shape: str | None


def draw(folder: Path, counts: Mapping[str, int]) -> None:
    """Write `KIND.npy` for each of KINDS, with as many pictures as `counts` says, and `KIND.json`, the captions."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in KINDS:
        _draw_kind(folder, kind, counts[kind])


def pictures(folder: Path, kind: str) -> Pictures:
    """Mapped, not read: the pages that a batch touches are."""
    mapped: Pictures = np.load(folder / f"{kind}.npy", mmap_mode="r")
    return mapped


def captions(folder: Path, kind: str) -> list[Caption]:
    return [Caption(**entry) for entry in json.loads((folder / f"{kind}.json").read_text(encoding="utf-8"))]


def block(kind: str, number: int, count: int = BLOCK) -> tuple[Pictures, list[Caption]]:
    """The pictures of one seed; captions only of what has any."""
    rng = random.Random(f"{kind}-{number}")
    if kind in _PAINTERS:
        return _stacked([_PAINTERS[kind](rng) for _ in range(count)]), []
    scenes = [_CAPTIONED[kind](rng) for _ in range(count)]
    return _stacked([s.image for s in scenes]), [Caption(s.caption, s.colour, s.shape) for s in scenes]


def _draw_kind(folder: Path, kind: str, count: int) -> None:
    said: list[Caption] = []
    part = folder / f".{kind}.npy"
    first, _ = block(kind, 0, 1)
    drawn = open_memmap(part, mode="w+", dtype=np.uint8, shape=(count, *first.shape[1:]))
    for start in range(0, count, BLOCK):
        end = min(start + BLOCK, count)
        drawn[start:end], captions_of_block = block(kind, start // BLOCK, end - start)
        said += captions_of_block
    drawn.flush()
    if said:
        text = json.dumps([asdict(caption) for caption in said])
        (folder / f"{kind}.json").write_text(text, encoding="utf-8")
    part.rename(folder / f"{kind}.npy")


def _stacked(images: list[Image.Image]) -> Pictures:
    return np.stack([np.asarray(image, dtype=np.uint8) for image in images])
