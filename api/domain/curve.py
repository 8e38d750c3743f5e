"""The course of a training, step by step, and how it is made short enough to be shown."""

from collections.abc import Sequence
from dataclasses import dataclass, field

CHUNK_STEPS = 500
SMOOTHING_SHARE = 0.04
"""Of all steps: how far the smoothed curve looks back."""


@dataclass(frozen=True, slots=True)
class Point:
    """One optimizer step."""

    step: int
    at: float
    """When it was done, in seconds since the epoch."""
    loss: float | None = None
    learning_rate: float | None = None
    seconds: float | None = None
    """What it took, without saving and drawing; None where it is not known when it began."""


@dataclass(frozen=True, slots=True)
class Course:
    """By step; each step once."""

    points: Sequence[Point] = ()
    checkpoints: Sequence[int] = field(default=())
    """The steps at which a training checkpoint was saved."""


def chunk_of(step: int) -> int:
    """In which of the rows of CHUNK_STEPS steps this one is kept."""
    return max(0, step - 1) // CHUNK_STEPS


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """At most `most` (2 or more) of the points, in order: the first, the last, and of each part between them the
    extremes of the loss, so that no peak is lost.
    """
    if len(points) <= most:
        return list(points)
    inner = points[1:-1]
    parts = (most - 2) // 2
    kept = {points[0].step: points[0], points[-1].step: points[-1]}
    for number in range(parts):
        part = inner[len(inner) * number // parts : len(inner) * (number + 1) // parts]
        told = [point for point in part if point.loss is not None] or part
        for point in (min(told, key=_loss), max(told, key=_loss)):
            kept[point.step] = point
    return [kept[step] for step in sorted(kept)]


def smoothed(points: Sequence[Point]) -> list[tuple[int, float]]:
    """(step, loss) of those that have one, as a moving mean that forgets, and that is right from its first point on."""
    told = [(point.step, point.loss) for point in points if point.loss is not None]
    keep = 1 - 1 / max(2.0, SMOOTHING_SHARE * len(told))
    total = weight = 0.0
    curve = []
    for step, loss in told:
        total, weight = keep * total + loss, keep * weight + 1
        curve.append((step, total / weight))
    return curve


def _loss(point: Point) -> float:
    return point.loss if point.loss is not None else 0.0
