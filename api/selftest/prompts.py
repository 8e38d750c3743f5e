"""Prompts whose pictures can be judged by what they say, and the judging."""

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from PIL import Image

from api.selftest.measure import measure
from api.selftest.shapes import COLOURS, SHAPES

GRID_SEED = 7
_SENTENCES = ("a {} {} on a {} background", "a photo of a {} {} on a {} background")

Pair = tuple[str, str]
"""A colour and a shape."""

# fmt: off
HELD_OUT_PAIRS = frozenset[Pair]({
    ("red", "moon"), ("green", "heart"), ("blue", "star"), ("yellow", "cross"), ("orange", "diamond"),
    ("purple", "triangle"), ("cyan", "square"), ("white", "circle"), ("black", "ring"),
})
# fmt: on
"""Never shown to a transformer that is trained from nothing: what it draws for them is put together, not remembered."""


@dataclass(frozen=True, slots=True)
class Prompt:
    text: str
    background: str
    colour: str
    shape: str


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How many of `count` pictures show what was asked for."""

    count: int
    background: int
    colour: int
    shape: int
    all: int

    def __str__(self) -> str:
        shares = ((name, getattr(self, name)) for name in ("background", "colour", "shape", "all"))
        return ", ".join(f"{name} {right}/{self.count}" for name, right in shares)


def grid(count: int, seed: int = GRID_SEED) -> list[Prompt]:
    """Random prompts over all backgrounds, colours and shapes; a longer grid begins with the shorter one."""
    rng = random.Random(seed)
    return [_prompt(rng) for _ in range(count)]


def grid_of_pairs(pairs: Iterable[Pair], count: int, seed: int = GRID_SEED) -> list[Prompt]:
    """The same of only these pairs, each as often as the others."""
    rng, ordered = random.Random(seed), sorted(pairs)
    return [_prompt(rng, ordered[i % len(ordered)]) for i in range(count)]


def judge(prompts: Iterable[Prompt], images: Iterable[Image.Image]) -> Accuracy:
    """Raises ValueError unless there is one picture for each prompt."""
    right: Counter[str] = Counter()
    for prompt, image in zip(prompts, images, strict=True):
        seen = measure(image)
        hits = {name: getattr(seen, name) == getattr(prompt, name) for name in ("background", "colour", "shape")}
        right.update(name for name, hit in hits.items() if hit)
        right.update({"all": all(hits.values()), "count": 1})
    return Accuracy(**{name: right[name] for name in ("count", "background", "colour", "shape", "all")})


def _prompt(rng: random.Random, pair: Pair | None = None) -> Prompt:
    background = rng.choice([name for name in COLOURS if pair is None or name != pair[0]])
    colour, shape = pair or (rng.choice([name for name in COLOURS if name != background]), rng.choice(SHAPES))
    return Prompt(rng.choice(_SENTENCES).format(colour, shape, background), background, colour, shape)
