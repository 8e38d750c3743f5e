"""Pictures that only the VAE is trained on: it is the general codec, and a LoRA may teach what the base never drew.

Without them it could show neither pink nor a face, whatever the transformer had learned.
"""

import math
import random

from PIL import Image, ImageDraw

from api.selftest.concept import INK, draw_face
from api.selftest.shapes import CANVAS_SIDE, COLOURS, SHAPES, SUPERSAMPLING, Rgb, blank, draw_shape, finished

_FADE_STEP = 2
"""Width of one band of a colour gradient, in pixels of the canvas."""


def faced(rng: random.Random) -> Image.Image:
    """One shape near the middle in any colour, mostly with a face."""
    striped = rng.random() < 1 / 6
    background = rng.choice(list(COLOURS.values())) if rng.random() < 0.6 else _any_colour(rng)
    canvas = blank(background, striped=striped)
    draw = ImageDraw.Draw(canvas)
    radius = rng.uniform(14, 25) * SUPERSAMPLING
    x, y = (CANVAS_SIDE / 2 + rng.uniform(-6, 6) * SUPERSAMPLING for _ in range(2))
    draw_shape(draw, rng.choice(SHAPES), x, y, radius, _any_colour(rng), rng.uniform(-0.2, 0.2))
    if rng.random() < 0.8:
        ink = _any_colour(rng) if rng.random() < 0.25 else INK
        draw_face(draw, x, y, radius, ink, white_eyes=rng.random() < 0.75)
    return finished(canvas)


def doodle(rng: random.Random) -> Image.Image:
    """One to four things of any colour anywhere, on a plain, striped or fading background."""
    if rng.random() < 0.3:
        canvas = _fading(_any_colour(rng), _any_colour(rng), upright=rng.random() < 0.5)
    else:
        canvas = blank(_any_colour(rng), striped=rng.random() < 1 / 3)
    draw = ImageDraw.Draw(canvas)
    for _ in range(rng.randint(1, 4)):
        _add_thing(rng, draw)
    return finished(canvas)


def _add_thing(rng: random.Random, draw: ImageDraw.ImageDraw) -> None:
    (x, y), radius = _anywhere(rng), rng.uniform(4, 26) * SUPERSAMPLING
    kind = rng.random()
    if kind < 0.7:
        draw_shape(draw, rng.choice(SHAPES), x, y, radius, _any_colour(rng), rng.uniform(0, 2 * math.pi))
    elif kind < 0.85:
        draw.line([_anywhere(rng) for _ in range(3)], fill=_any_colour(rng), width=rng.randint(4, 20))
    else:
        draw.polygon([_anywhere(rng) for _ in range(rng.randint(3, 6))], fill=_any_colour(rng))
    if rng.random() < 0.35 and radius > 10 * SUPERSAMPLING:
        ink = _any_colour(rng) if rng.random() < 0.4 else INK
        draw_face(draw, x, y, radius, ink, white_eyes=rng.random() < 0.7)


def _fading(first: Rgb, last: Rgb, *, upright: bool) -> Image.Image:
    canvas = Image.new("RGB", (CANVAS_SIDE, CANVAS_SIDE))
    draw = ImageDraw.Draw(canvas)
    for start in range(0, CANVAS_SIDE, _FADE_STEP):
        share, end = start / CANVAS_SIDE, start + _FADE_STEP - 1
        band = (0, start, CANVAS_SIDE, end) if upright else (start, 0, end, CANVAS_SIDE)
        red, green, blue = (int(a + (b - a) * share) for a, b in zip(first, last, strict=True))
        draw.rectangle(band, fill=(red, green, blue))
    return canvas


def _anywhere(rng: random.Random) -> tuple[float, float]:
    return rng.uniform(0, CANVAS_SIDE), rng.uniform(0, CANVAS_SIDE)


def _any_colour(rng: random.Random) -> Rgb:
    return rng.randrange(256), rng.randrange(256), rng.randrange(256)
