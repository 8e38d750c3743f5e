"""How the pictures of a batch are laid out to be compared. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

TITLE_CHARACTERS = 120
WORD_CHARACTERS = 20
"""Longer words, and scripts without spaces, are broken."""
LARGEST_SIDE = 12_000
"""Of a whole sheet, in pixels, without its titles."""
GAP_PIXELS = 10
SMALLEST_CELL = 16


@dataclass(frozen=True, slots=True)
class Picture:
    """What a picture was drawn with; `loras` is how its stack is shown, empty for none."""

    prompt: str
    seed: int
    loras: str


@dataclass(frozen=True, slots=True)
class Layout:
    heading: str
    """What all pictures have in common."""
    column_titles: list[str]
    row_titles: list[str]
    cells: list[list[int | None]]
    """Which picture, by its number; None where there is none."""
    captions: dict[int, str]
    """By the same numbers, where rows and columns have no titles."""

    def cell_side(self, wanted: int) -> int:
        """Pixels, so that the sheet does not grow beyond measure."""
        longest = max(len(self.cells), len(self.column_titles))
        return max(SMALLEST_CELL, min(wanted, LARGEST_SIDE // longest - GAP_PIXELS))


def arrange(pictures: Sequence[Picture]) -> Layout:
    """Columns are the LoRAs if they differ, else the seeds; rows all else. One difference alone fills a square."""
    axes: dict[str, list[object]] = {
        "loras": list(dict.fromkeys(picture.loras for picture in pictures)),
        "prompt": list(dict.fromkeys(picture.prompt for picture in pictures)),
        "seed": list(dict.fromkeys(picture.seed for picture in pictures)),
    }
    several = [name for name, values in axes.items() if len(values) > 1]
    common = [name for name in ("prompt", "seed", "loras") if name not in several]
    heading = ", ".join(text for name in common if (text := _title(name, axes[name][0])))
    if len(several) < 2:
        return _square(heading, [_title(name, getattr(p, name)) for p in pictures for name in several or ["seed"]])
    across, *down = ["loras", *(n for n in several if n != "loras")] if "loras" in several else ["seed", "prompt"]
    numbers = {tuple(getattr(p, name) for name in (across, *down)): number for number, p in enumerate(pictures)}
    rows = list(product(*(axes[name] for name in down)))
    return Layout(
        heading,
        [_title(across, value) for value in axes[across]],
        [", ".join(_title(name, value) for name, value in zip(down, row, strict=True)) for row in rows],
        [[numbers.get((value, *row)) for value in axes[across]] for row in rows],
        {},
    )


def _square(heading: str, captions: list[str]) -> Layout:
    columns = math.ceil(math.sqrt(len(captions)))
    numbers: list[int | None] = [*range(len(captions))]
    numbers += [None] * (-len(captions) % columns)
    cells = [numbers[start : start + columns] for start in range(0, len(numbers), columns)]
    return Layout(heading, [""] * columns, [""] * len(cells), cells, dict(enumerate(captions)))


def _title(axis: str, value: object) -> str:
    if axis == "seed":
        return f"seed {value}"
    text = " ".join(str(value).split())
    if axis == "loras":
        text = text or "no LoRA"
    short = text if len(text) <= TITLE_CHARACTERS else f"{text[: TITLE_CHARACTERS - 1]}…"
    words = (word[i : i + WORD_CHARACTERS] for word in short.split() for i in range(0, len(word), WORD_CHARACTERS))
    return " ".join(words)
