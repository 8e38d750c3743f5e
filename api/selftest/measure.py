"""What a picture shows, measured: the colours and the shape of one subject on a plain background, and the character.

Good for drawn pictures, and for what flux-tiny makes of them but for the shape of small or soft ones: the corners of
its stars and crosses are round and often read as a diamond. Not for photographs, nor for stripes (red ones look pink).
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from api.selftest.concept import PINK
from api.selftest.shapes import CANVAS_SIDE, COLOURS, PICTURE_SIDE, SHAPES, blank, draw_shape, finished

Mask = NDArray[np.bool_]
Pixels = NDArray[np.float64]

_NAMES = (*COLOURS, "pink")
_PALETTE = np.array([*COLOURS.values(), PINK], float)
_LUMA = np.array([0.30, 0.59, 0.11])

_CORNER_SIDE = 6
_SUBJECT_DISTANCE = 70
"""From the background, in RGB, where the subject begins; the nearest two colours of the palette are 84 apart."""
_LEAST_SUBJECT_PIXELS = 20
_LEAST_PINK_PIXELS = 61
_SILHOUETTE_SIDE = 24
_DARK_LUMA = 115
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)


@dataclass(frozen=True, slots=True)
class Measured:
    """Fractions are of the whole picture where nothing else is said; likenesses are intersection over union, 0..1."""

    background: str
    colour: str | None
    """Of the subject, by the nearest name of the palette or `pink`; None when there is no subject."""
    shape: str | None
    likeness: float
    """To the shape it is most like."""
    star_likeness: float
    area: float
    """Fraction that the subject fills."""
    centre: tuple[float, float] | None
    """Of the subject, in pixels from the left and the top of a 64 px picture."""
    pink_fraction: float
    pupil_fraction: float
    """Dark part of where the eyes are in a pink thing; 0 in one without a face."""

    @property
    def shows_character(self) -> bool:
        """Whether this is the pink star with a face. A LoRA at half strength mostly stops half-way to it."""
        return self.pink_fraction > 0.06 and self.star_likeness > 0.55 and self.pupil_fraction > 0.05


def measure(image: Image.Image) -> Measured:
    """Measure a picture of any size and mode, at 64 px."""
    pixels = _pixels(image)
    background = _background(pixels)
    subject = np.linalg.norm(pixels - background, axis=-1) > _SUBJECT_DISTANCE
    pink = _nearest(pixels) == _NAMES.index("pink")
    found = int(subject.sum()) >= _LEAST_SUBJECT_PIXELS
    likenesses = _likenesses(subject) if found else dict.fromkeys(SHAPES, 0.0)
    shape = max(likenesses, key=likenesses.__getitem__)
    return Measured(
        background=_name(background),
        colour=_name(np.median(pixels[subject], axis=0)) if found else None,
        shape=shape if found else None,
        likeness=likenesses[shape],
        star_likeness=likenesses["star"],
        area=float(subject.mean()),
        centre=_centre(subject) if found else None,
        pink_fraction=float(pink.mean()),
        pupil_fraction=_pupil_fraction(pixels, pink),
    )


def _pixels(image: Image.Image) -> Pixels:
    picture = image.convert("RGB")
    if picture.size != (PICTURE_SIDE, PICTURE_SIDE):
        picture = picture.resize((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.BOX)
    return np.asarray(picture, dtype=np.float64)


def _background(pixels: Pixels) -> Pixels:
    """The median of the four corners."""
    k = _CORNER_SIDE
    corners = [pixels[:k, :k], pixels[:k, -k:], pixels[-k:, :k], pixels[-k:, -k:]]
    median: Pixels = np.median(np.concatenate(corners).reshape(-1, 3), axis=0)
    return median


def _nearest(colours: Pixels) -> NDArray[np.intp]:
    """Index into the palette for each colour, by Euclidean distance (less a term that all distances share)."""
    nearest: NDArray[np.intp] = ((_PALETTE**2).sum(-1) - 2 * colours @ _PALETTE.T).argmin(-1)
    return nearest


def _name(colour: Pixels) -> str:
    return _NAMES[int(_nearest(colour))]


def _likenesses(subject: Mask) -> dict[str, float]:
    seen = _silhouette(subject)
    return {shape: float((seen & drawn).sum() / (seen | drawn).sum()) for shape, drawn in _silhouettes().items()}


@cache
def _silhouettes() -> dict[str, Mask]:
    """Each shape as a silhouette, drawn upright."""
    drawn = {}
    for shape in SHAPES:
        canvas = blank(_BLACK)
        draw_shape(ImageDraw.Draw(canvas), shape, CANVAS_SIDE / 2, CANVAS_SIDE / 2, CANVAS_SIDE / 4, _WHITE)
        drawn[shape] = _silhouette(_pixels(finished(canvas))[..., 0] > 127)
    return drawn


def _silhouette(mask: Mask) -> Mask:
    """What is set, cut out and stretched to one size, so that only its form counts."""
    rows, columns = _extent(mask)
    cut = Image.fromarray(mask[rows, columns].astype(np.uint8) * 255)
    stretched = cut.resize((_SILHOUETTE_SIDE, _SILHOUETTE_SIDE), Image.Resampling.BILINEAR)
    silhouette: Mask = np.asarray(stretched) > 127
    return silhouette


def _extent(mask: Mask) -> tuple[slice, slice]:
    """The rows and columns between which everything that is set lies."""
    ys, xs = np.nonzero(mask)
    return slice(int(ys.min()), int(ys.max()) + 1), slice(int(xs.min()), int(xs.max()) + 1)


def _centre(mask: Mask) -> tuple[float, float]:
    ys, xs = np.nonzero(mask)
    return float(xs.mean()), float(ys.mean())


def _pupil_fraction(pixels: Pixels, pink: Mask) -> float:
    if pink.sum() < _LEAST_PINK_PIXELS:
        return 0.0
    thing = pixels[_extent(pink)]
    height, width = thing.shape[:2]
    eyes = thing[int(height * 0.36) : int(height * 0.56), int(width * 0.34) : int(width * 0.66)]
    return float((eyes @ _LUMA < _DARK_LUMA).mean())
