"""The palette and the geometry of every drawn picture, exactly those that flux-tiny was trained on.

Changing a number here moves the pictures away from what the base model knows: a LoRA then learns the difference, too.
Coordinates and radii are in pixels of the canvas, which is SUPERSAMPLING times the finished picture.
"""

import math
import random
from collections.abc import Callable, Mapping

from PIL import Image, ImageDraw

Rgb = tuple[int, int, int]
Points = list[tuple[float, float]]

PICTURE_SIDE = 64
LARGE_SIDE = 128
"""The same pictures at twice the size."""
SUPERSAMPLING = 4
CANVAS_SIDE = PICTURE_SIDE * SUPERSAMPLING

COLOURS: Mapping[str, Rgb] = {
    "red": (220, 40, 40),
    "green": (40, 165, 65),
    "blue": (45, 80, 220),
    "yellow": (245, 215, 50),
    "orange": (245, 135, 25),
    "purple": (125, 55, 180),
    "cyan": (70, 205, 225),
    "white": (245, 245, 245),
    "black": (25, 25, 28),
    "gray": (130, 130, 132),
    "brown": (125, 78, 40),
}

_STRIPES = 8
_BRIGHT = 560
"""Sum of a colour's channels from which its stripes are darker, not lighter, than itself."""


def blank(background: Rgb, *, striped: bool = False) -> Image.Image:
    """A canvas with nothing but its background."""
    canvas = Image.new("RGB", (CANVAS_SIDE, CANVAS_SIDE), background)
    if striped:
        draw, height = ImageDraw.Draw(canvas), CANVAS_SIDE // _STRIPES
        for top in range(0, CANVAS_SIDE, 2 * height):
            draw.rectangle((0, top, CANVAS_SIDE, top + height - 1), fill=_stripe(background))
    return canvas


def finished(canvas: Image.Image, side: int = PICTURE_SIDE) -> Image.Image:
    """The canvas at its final size, its edges smooth."""
    return canvas.resize((side, side), Image.Resampling.BOX)


def jitter(rng: random.Random, colour: Rgb, amount: float = 8) -> Rgb:
    """A colour that is hardly another one."""
    red, green, blue = (max(0, min(255, int(channel + rng.uniform(-amount, amount)))) for channel in colour)
    return red, green, blue


def draw_shape(
    draw: ImageDraw.ImageDraw, shape: str, x: float, y: float, radius: float, fill: Rgb, turn: float = 0.0
) -> None:
    """Draw one of SHAPES around (x, y). `turn` is in radians; round and upright shapes ignore it."""
    _PAINTERS[shape](draw, x, y, radius, fill, turn)


def _stripe(background: Rgb) -> Rgb:
    bright = sum(background) >= _BRIGHT
    red, green, blue = (int(c * 0.72) if bright else int(c + (255 - c) * 0.45) for c in background)
    return red, green, blue


def _spokes(x: float, y: float, radii: list[float], turn: float) -> Points:
    """A closed outline whose corners lie on evenly spaced spokes, the first one upward."""
    angles = [turn + 2 * math.pi * i / len(radii) - math.pi / 2 for i in range(len(radii))]
    return [(x + r * math.cos(a), y + r * math.sin(a)) for r, a in zip(radii, angles, strict=True)]


def _arc(x: float, y: float, radius: float, degrees: range) -> Points:
    return [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in map(math.radians, degrees)]


def _circle(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, fill: Rgb, _turn: float) -> None:
    draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)


def _square(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, fill: Rgb, turn: float) -> None:
    draw.polygon(_spokes(x, y, [r * 1.22] * 4, turn + math.pi / 4), fill=fill)


def _triangle(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, fill: Rgb, turn: float) -> None:
    draw.polygon(_spokes(x, y + r * 0.2, [r * 1.2] * 3, turn), fill=fill)


def _star(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, fill: Rgb, turn: float) -> None:
    draw.polygon(_spokes(x, y + r * 0.08, [r * 1.2, r * 0.52] * 5, turn), fill=fill)


def _heart(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, fill: Rgb, _turn: float) -> None:
    outline: Points = []
    for t in (2 * math.pi * i / 60 for i in range(60)):
        across = 16 * math.sin(t) ** 3
        up = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        outline.append((x + across * r / 16, y - (up + 2.5) * r / 15))
    draw.polygon(outline, fill=fill)


def _diamond(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, fill: Rgb, _turn: float) -> None:
    draw.polygon([(x, y - r * 1.15), (x + r * 0.8, y), (x, y + r * 1.15), (x - r * 0.8, y)], fill=fill)


def _ring(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, fill: Rgb, _turn: float) -> None:
    draw.ellipse((x - r, y - r, x + r, y + r), outline=fill, width=int(r * 0.42))


def _cross(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, fill: Rgb, _turn: float) -> None:
    half = r * 0.36
    draw.rectangle((x - half, y - r, x + half, y + r), fill=fill)
    draw.rectangle((x - r, y - half, x + r, y + half), fill=fill)


def _moon(draw: ImageDraw.ImageDraw, x: float, y: float, r: float, fill: Rgb, _turn: float) -> None:
    outside, inside = _arc(x, y, r, range(60, 301, 6)), _arc(x + r * 0.42, y, r * 0.9, range(286, 73, -6))
    draw.polygon(outside + inside, fill=fill)


_PAINTERS: Mapping[str, Callable[[ImageDraw.ImageDraw, float, float, float, Rgb, float], None]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "diamond": _diamond,
    "ring": _ring,
    "cross": _cross,
    "moon": _moon,
}

SHAPES = tuple(_PAINTERS)
