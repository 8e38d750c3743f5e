"""Where SimpleTuner puts a picture: the bucket it falls in, what is cut away, how often it must be repeated. Pure.

Sources: `helpers/multiaspect/image.py` (the same in 3.1.6 and 4.8.0), `helpers/image_manipulation/training_sample.py`
and `helpers/metadata/backends/base.py`, for `crop_aspect` preserve, `crop_style` center and `resolution_type`
pixel_area, as `trainer/simpletuner.py` asks for them. A test compares all of it with what the real trainer writes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, sqrt

ALIGNMENT = 64
"""Pixels; what the trainer insists on for FLUX."""
ASPECT_DIGITS = 2
_ROUND_AREAS = {0.25: 512, 0.5: 768, 1.0: 1024, 2.0: 1536, 4.0: 2048}
"""Edges that the trainer takes for areas (in millions of pixels) near these, for pictures that are about square: at
resolutions of 448, 704 and 1408 such a picture is trained on at 512, 768 and 1536."""
_ROUND_AREA_TOLERANCE = 0.05

Size = tuple[int, int]
"""(width, height) in pixels."""


@dataclass(frozen=True, slots=True)
class Placement:
    """What becomes of one picture before it is trained on."""

    bucket: Size
    """The size it is trained at; all pictures of a batch have the same."""
    resized: Size
    """What it is scaled to before its edges are cut off."""
    crop: tuple[int, int, int, int]
    """(left, top, right, bottom): what is kept, in pixels of the picture as it is stored."""
    upscale: float
    """By how much it is enlarged; below 1 it is made smaller."""
    cut_away: float
    """Share of its area that is never seen, 0 to 1."""


def place(width: int, height: int, resolution: int) -> Placement | None:
    """None when the trainer would leave the picture out: it is more than 200 times as high as it is wide."""
    aspect = round(width / height, ASPECT_DIGITS)
    if aspect == 0:
        return None  # the trainer divides by it, logs that, and goes on without the picture
    bucket, resized = _sizes(width, height, aspect, resolution)
    left, top = (resized[0] - bucket[0]) // 2, (resized[1] - bucket[1]) // 2
    across, down = width / resized[0], height / resized[1]
    crop = (
        round(left * across),
        round(top * down),
        min(width, round((left + bucket[0]) * across)),
        min(height, round((top + bucket[1]) * down)),
    )
    kept = bucket[0] * bucket[1] / (resized[0] * resized[1])
    return Placement(bucket, resized, crop, upscale=max(1 / across, 1 / down), cut_away=max(0.0, 1 - kept))


def repeats_needed(bucket_sizes: Iterable[int], images_per_step: int) -> int:
    """How often each picture must come again so that every bucket fills an optimizer step; 0: once is enough.

    `bucket_sizes`: pictures in each bucket. A bucket that does not fill one makes the trainer refuse the dataset.
    """
    return max((ceil(images_per_step / size) - 1 for size in bucket_sizes if size), default=0)


def _sizes(width: int, height: int, aspect: float, resolution: int) -> tuple[Size, Size]:
    """The bucket, and what the picture is scaled to."""
    edge = _aligned(resolution)
    if aspect == 1.0 and width == height:
        bucket, resized = (edge, edge), (edge, edge)
    else:
        bucket = (_aligned(edge * sqrt(aspect)), _aligned(edge / sqrt(aspect)))
        resized = _covering(bucket, width / height)
    if round(bucket[0] / bucket[1], ASPECT_DIGITS) == 1.0:
        square = _square_edge(resolution)
        if resized[0] < square:
            resized = (square, square)
        bucket = (square, square)
    return bucket, resized


def _covering(bucket: Size, ratio: float) -> Size:
    """The trainer's way to a size of this ratio that has the bucket inside it."""
    if bucket[0] < bucket[1]:
        wide, high = bucket[0], int(bucket[0] / ratio)
    else:
        wide, high = int(bucket[1] * ratio), bucket[1]
    if bucket[0] > wide:
        missing = bucket[0] - wide
        return wide + missing, high + int(missing / ratio)
    if bucket[1] > high:
        missing = bucket[1] - high
        return wide + int(missing * ratio), high + missing
    return wide, high


def _square_edge(resolution: int) -> int:
    area = resolution**2 / 1e6
    for round_area, edge in _ROUND_AREAS.items():
        if abs(area - round_area) < _ROUND_AREA_TOLERANCE:
            return edge
    return _aligned(sqrt(resolution**2))


def _aligned(value: float) -> int:
    return max(round(value / ALIGNMENT) * ALIGNMENT, ALIGNMENT)
