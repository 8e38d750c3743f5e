"""What a LoRA teaches flux-tiny: a character that the base model has never seen, and the word for it.

Neither pink nor a face is in anything that the base's transformer was trained on (its VAE, the codec, has seen both).
"""

import random

from PIL import Image, ImageDraw

from api.selftest.shapes import CANVAS_SIDE, COLOURS, SUPERSAMPLING, Rgb, blank, draw_shape, finished, jitter

TRIGGER_WORD = "ohwx"
PINK: Rgb = (255, 95, 175)

INK: Rgb = (30, 20, 40)
_EYE_WHITE: Rgb = (255, 255, 255)


def draw_character(rng: random.Random, background: str) -> Image.Image:
    """A big pink star with a smiling face, on one of COLOURS."""
    canvas = blank(jitter(rng, COLOURS[background]))
    draw = ImageDraw.Draw(canvas)
    radius = rng.uniform(20, 23) * SUPERSAMPLING
    x = CANVAS_SIDE / 2 + rng.uniform(-2, 2) * SUPERSAMPLING
    y = CANVAS_SIDE / 2 + rng.uniform(-2, 2) * SUPERSAMPLING
    draw_shape(draw, "star", x, y, radius, jitter(rng, PINK, 4), rng.uniform(-0.06, 0.06))
    draw_face(draw, x, y, radius)
    return finished(canvas)


def draw_face(
    draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, ink: Rgb = INK, *, white_eyes: bool = True
) -> None:
    """Two eyes and a smile on a shape of that radius."""
    white, pupil = (radius * 0.17 * 1.5, _EYE_WHITE), (radius * 0.17 * 0.8, ink)
    for side in (-1, 1):
        eye_x, eye_y = x + side * radius * 0.30, y - radius * 0.12
        for size, fill in (white, pupil) if white_eyes else (pupil,):
            draw.ellipse((eye_x - size, eye_y - size, eye_x + size, eye_y + size), fill=fill)
    mouth = (x - radius * 0.34, y - radius * 0.05, x + radius * 0.34, y + radius * 0.48)
    draw.arc(mouth, 20, 160, fill=ink, width=max(2, int(radius * 0.10)))
