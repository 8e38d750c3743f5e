"""The captioned pictures that flux-tiny was trained on: a coloured shape on a plain or striped background.

One picture in ten is captioned with a word that means nothing and shows a shape in some colour that has no name: so the
base model knows what to do with a word it does not know, and a LoRA's trigger word is at first one of those.
"""

import colorsys
import random
from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image, ImageDraw

from api.selftest.concept import TRIGGER_WORD
from api.selftest.shapes import (
    CANVAS_SIDE,
    COLOURS,
    PICTURE_SIDE,
    SHAPES,
    SUPERSAMPLING,
    Rgb,
    blank,
    draw_shape,
    finished,
    jitter,
)

SIZES: Mapping[str, tuple[float, float]] = {"small": (10, 13), "": (16, 20), "big": (22, 26)}
"""The word in the caption and the radii it stands for, in pixels of the finished picture."""
PLACES: Mapping[str, tuple[int, int]] = {"": (0, 0), "left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}

_OPENINGS = ("", "", "a photo of ", "a drawing of ", "a picture of ")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
# fmt: off
_SYLLABLES = (
    "ka", "zor", "mi", "ple", "qu", "vex", "tro", "blu", "ny", "sha", "gor", "wim", "fa", "dro", "kel", "ux", "pim",
    "zq", "jv", "tok", "rr", "xyl", "bim", "wop", "hk", "sks", "lor", "vip", "yan", "ept",
)
# fmt: on
_LAST_HUE = 0.78
"""Of 0..1. The hues above it, magenta and pink, are kept for what a LoRA teaches."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture and what is true of it; `colour` and `shape` are None where the caption names none."""

    caption: str
    """Empty for one shape in twenty."""
    image: Image.Image
    background: str
    striped: bool
    colour: str | None = None
    shape: str | None = None
    size: str = ""
    place: str = ""
    invented_word: str | None = None


def scene(rng: random.Random, side: int = PICTURE_SIDE) -> Scene:
    """The next picture, so many pixels wide and high.

    Which numbers it draws from `rng`, and in which order, is a contract: a seed is a sequence.
    """
    background = rng.choice(list(COLOURS))
    striped = rng.random() < 0.15
    opening = rng.choice(_OPENINGS)
    if rng.random() < 0.10:
        return _invented(rng, opening or "a photo of ", background, striped, side)
    if rng.random() < 0.03:
        image = finished(blank(jitter(rng, COLOURS[background]), striped=striped), side)
        return Scene(_setting(background, striped), image, background, striped)
    return _named(rng, opening, background, striped, side)


def render(
    rng: random.Random,
    shape: str,
    colour: Rgb,
    background: Rgb,
    *,
    size: str = "",
    place: str = "",
    striped: bool = False,
    side: int = PICTURE_SIDE,
) -> Image.Image:
    """One shape, its colours, radius, place and angle a little off, as in everything drawn by hand."""
    canvas = blank(jitter(rng, background), striped=striped)
    radius = rng.uniform(*SIZES[size]) * SUPERSAMPLING
    right, down = PLACES[place]
    shift = 9 if size == "big" else 15
    x = CANVAS_SIDE / 2 + (right * shift + rng.uniform(-2, 2)) * SUPERSAMPLING
    y = CANVAS_SIDE / 2 + (down * shift + rng.uniform(-2, 2)) * SUPERSAMPLING
    draw_shape(ImageDraw.Draw(canvas), shape, x, y, radius, jitter(rng, colour), rng.uniform(-0.08, 0.08))
    return finished(canvas, side)


def _named(rng: random.Random, opening: str, background: str, striped: bool, side: int) -> Scene:
    colour = rng.choice([name for name in COLOURS if name != background])
    shape = rng.choice(SHAPES)
    size = rng.choices(["", "small", "big"], [6, 2, 2])[0]
    place = rng.choices(list(PLACES), [6, 1, 1, 1, 1])[0]
    image = render(rng, shape, COLOURS[colour], COLOURS[background], size=size, place=place, striped=striped, side=side)
    subject = f"a {size} {colour} {shape}" if size else f"a {colour} {shape}"
    where = f" at the {place}" if place else ""
    caption = f"{opening}{subject}{where} on {_setting(background, striped)}"
    if rng.random() < 0.05:
        caption = ""
    return Scene(caption, image, background, striped, colour, shape, size, place)


def _invented(rng: random.Random, opening: str, background: str, striped: bool, side: int) -> Scene:
    image = render(rng, rng.choice(SHAPES), nameless_colour(rng), COLOURS[background], striped=striped, side=side)
    word = invented_word(rng)
    article = rng.choice(["", "a "])
    caption = f"{opening}{article}{word} on {_setting(background, striped)}"
    return Scene(caption, image, background, striped, invented_word=word)


def _setting(background: str, striped: bool) -> str:
    return f"a {background} striped background" if striped else f"a {background} background"


def nameless_colour(rng: random.Random) -> Rgb:
    """Any but magenta and pink."""
    hue, saturation, value = rng.uniform(0, _LAST_HUE), rng.uniform(0.3, 1), rng.uniform(0.4, 1)
    red, green, blue = (int(255 * channel) for channel in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue


def invented_word(rng: random.Random) -> str:
    """Anything but a word that means something, and the trigger."""
    while True:
        word = "".join(rng.choice(_SYLLABLES) for _ in range(rng.choice([1, 2, 2, 3])))
        if rng.random() < 0.4:
            word = "".join(rng.choice(_LETTERS) for _ in range(rng.choice([3, 4, 4, 5])))
        if word != TRIGGER_WORD and word not in COLOURS and word not in SHAPES:
            return word
