"""Measures a stored picture without ever holding more of it than is needed. Blocks for as long as decoding takes."""

from collections.abc import Callable
from io import BytesIO
from math import ceil, sqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from api.domain.measurement import SHARPNESS_EDGES, Measured, Measurement
from api.errors import InputError

PREVIEW_SIDE = 224
"""Pixels, of a square that the preview fits into."""
PREVIEW_QUALITY = 80
BLUR_WIDTH = 11
"""Pixels, of Crété and others (2007): a picture that is sharp loses much by such a blur, a blurred one little."""
TILES = 8
"""In each direction; a sharp subject before a blurred background is sharp, so only the sharpest of them count."""
SHARPEST_PART = 8
LEAST_DETAIL = 0.15
"""Grey levels between neighbours in the sharpest tiles; below is a plain surface, of which nothing is said."""
_DECODERS: tuple[tuple[bytes, Callable[[Path], ImageFile]], ...] = (
    (b"\xff\xd8", JpegImageFile),
    (b"\x89PNG", PngImageFile),
    (b"RIFF", WebPImageFile),
)
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError)

Grey = NDArray[np.int16]


def measure_file(path: Path) -> Measured:
    """A stored JPEG is decoded at the smallest size that is enough. Raises InputError `corrupt_image`, OSError."""
    with path.open("rb") as file:
        start = file.read(4)
    decoder = next((each for mark, each in _DECODERS if start.startswith(mark)), None)
    if decoder is None:
        raise InputError("The file is not a PNG, JPEG or WebP picture.", code="corrupt_image", value=path.name)
    try:
        with decoder(path) as image:
            scale = _scale(image.size, SHARPNESS_EDGES[-1])
            image.draft(None, (ceil(image.width * scale), ceil(image.height * scale)))
            return measure(image)
    except _DAMAGE as exc:
        if isinstance(exc, OSError) and exc.errno is not None:
            raise
        raise InputError(f"The picture cannot be decoded: {exc}", code="corrupt_image", value=path.name) from exc


def measure(image: Image.Image) -> Measured:
    """Of an upright RGB or grey picture, which is left as it is."""
    seen = _shrunk(image, SHARPNESS_EDGES[-1])
    grey = seen.convert("L")
    sharpness = tuple(_sharpness(np.asarray(_shrunk(grey, edge), np.int16)) for edge in SHARPNESS_EDGES)
    dark, middle, bright = _tones(grey)
    fields = np.asarray(seen.convert("YCbCr").resize((4, 4), Image.Resampling.BOX))
    preview = seen.copy()
    preview.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    coded = BytesIO()
    preview.save(coded, "JPEG", quality=PREVIEW_QUALITY)
    return Measured(
        Measurement(sharpness, dark, middle, bright, _layout(grey), _slopes(grey), fields[:, :, 1:].tobytes()),
        coded.getvalue(),
    )


def _scale(size: tuple[int, int], edge: int) -> float:
    return min(1.0, edge / sqrt(size[0] * size[1]))


def _shrunk(image: Image.Image, edge: int) -> Image.Image:
    """As RGB or grey with at most as many pixels as a square of this edge has."""
    scale = _scale(image.size, edge)
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    return image if image.mode in {"RGB", "L"} else image.convert("RGB")


def _sharpness(grey: Grey) -> float | None:
    """The lower of both directions, so that motion in one of them counts; of one without detail nothing is said."""
    directions = [each for each in (_kept(grey), _kept(grey.T)) if each is not None]
    most = max((detail for _, detail in directions), default=0.0)
    shares = [share for share, detail in directions if detail >= max(LEAST_DETAIL, most / 4)]
    return round(1 - max(shares), 4) if shares else None


def _kept(grey: Grey) -> tuple[float, float] | None:
    """What share of the detail along rows a blur leaves, in the sharpest tiles, and how much detail that is.

    The blur itself is never made: neighbours in a running mean differ by what comes in at one end and goes out at the
    other, divided by its width.
    """
    if min(grey.shape) < 2 * BLUR_WIDTH:
        return None
    half = BLUR_WIDTH // 2
    detail = np.abs(grey[:, half + 1 : -half] - grey[:, half : -half - 1]) * np.int16(BLUR_WIDTH)
    lost = np.maximum(0, detail - np.abs(grey[:, BLUR_WIDTH:] - grey[:, :-BLUR_WIDTH]))
    tiles, tiles_lost = _tile_means(detail), _tile_means(lost)
    best = np.argsort(tiles_lost)[-tiles.size // SHARPEST_PART :]
    total = float(tiles[best].mean())
    return (1 - float(tiles_lost[best].mean()) / total, total / BLUR_WIDTH) if total > 0 else None


def _tile_means(values: Grey) -> NDArray[np.float64]:
    rows = np.linspace(0, values.shape[0], TILES + 1).astype(int)
    columns = np.linspace(0, values.shape[1], TILES + 1).astype(int)
    strips = np.add.reduceat(values, rows[:-1], axis=0, dtype=np.int32)
    sums = np.add.reduceat(strips, columns[:-1], axis=1)
    means: NDArray[np.float64] = (sums / np.outer(np.diff(rows), np.diff(columns))).ravel()
    return means


def _tones(grey: Image.Image) -> tuple[int, int, int]:
    counts = np.cumsum(grey.histogram())
    dark, middle, bright = np.searchsorted(counts, counts[-1] * np.array([0.05, 0.5, 0.95]))
    return int(dark), int(middle), int(bright)


def _layout(grey: Image.Image) -> int:
    """The perceptual hash: which of the 64 lowest frequencies are above their median."""
    side = 32
    small = np.asarray(grey.resize((side, side), Image.Resampling.BOX), np.float32)
    cosines = np.cos(np.pi / side * np.outer(np.arange(8), np.arange(side) + 0.5))
    lowest = (cosines @ small @ cosines.T).ravel()
    lowest[0] = 0  # brightness
    return _bits(lowest > np.median(lowest))


def _slopes(grey: Image.Image) -> int:
    small = np.asarray(grey.resize((9, 8), Image.Resampling.BOX), np.int16)
    return _bits((np.diff(small, axis=1) > 0).ravel())


def _bits(flags: NDArray[np.bool_]) -> int:
    return int.from_bytes(np.packbits(flags).tobytes(), "big")
