"""What the pixels of one picture say about it as training material, and which pictures are nearly the same. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

SHARPNESS_EDGES = (512, 1024)
"""A picture is measured at these sizes (edges of a square of equal area), as it would be seen by the trainer."""
MOST_BITS_APART = 8
"""Of 64, in both hashes: re-encoded, resized, brightened or slightly cropped copies stay below, other motifs above."""
MOST_COLOUR_APART = 14
"""Of 255, the largest difference of colour in any of 16 fields; the same shape in another colour is another picture."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """Of a picture, wherever and under whatever name it is."""

    sharpness: tuple[float | None, ...]
    """One for each of SHARPNESS_EDGES, 0 to 1: how much detail a slight blur would take from its sharpest part; None
    where there is no detail at all."""
    dark: int
    """Brightness of 0 to 255 that only a twentieth of the pixels is below."""
    middle: int
    bright: int
    """Only a twentieth is above."""
    layout: int
    """64 bits, from the lowest frequencies."""
    slopes: int
    """64 bits, from where brightness rises to the right."""
    colours: bytes
    """32 bytes: blue and red difference in 4 x 4 fields."""

    def sharpness_at(self, resolution: int) -> float | None:
        """At the nearest size that was measured."""
        nearest = min(range(len(SHARPNESS_EDGES)), key=lambda index: abs(SHARPNESS_EDGES[index] - resolution))
        return self.sharpness[nearest]

    def to_json(self) -> dict[str, Any]:
        return {
            "sharpness": list(self.sharpness),
            "tones": [self.dark, self.middle, self.bright],
            "layout": f"{self.layout:016x}",
            "slopes": f"{self.slopes:016x}",
            "colours": self.colours.hex(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        dark, middle, bright = data["tones"]
        return cls(
            sharpness=tuple(data["sharpness"]),
            dark=dark,
            middle=middle,
            bright=bright,
            layout=int(data["layout"], 16),
            slopes=int(data["slopes"], 16),
            colours=bytes.fromhex(data["colours"]),
        )


@dataclass(frozen=True, slots=True)
class Measured:
    measurement: Measurement
    preview: bytes
    """A small JPEG."""


def near_duplicates(measured: Sequence[Measurement | None]) -> dict[int, int]:
    """By number of a picture, the first one before it that is nearly the same. 2,000 pictures take about 0.1 s."""
    known = [(number, each) for number, each in enumerate(measured) if each is not None]
    if not known:
        return {}
    numbers = [number for number, _ in known]
    layouts = np.array([each.layout for _, each in known], dtype=np.uint64)
    slopes = np.array([each.slopes for _, each in known], dtype=np.uint64)
    colours = np.array([list(each.colours) for _, each in known], dtype=np.int16)
    found: dict[int, int] = {}
    for at in range(1, len(known)):
        alike = np.bitwise_count(layouts[:at] ^ layouts[at]) <= MOST_BITS_APART
        alike &= np.bitwise_count(slopes[:at] ^ slopes[at]) <= MOST_BITS_APART
        candidates = np.flatnonzero(alike)
        apart = np.abs(colours[candidates] - colours[at]).max(axis=1, initial=0)
        same = candidates[apart <= MOST_COLOUR_APART]
        if same.size:
            found[numbers[at]] = numbers[int(same[0])]
    return found
