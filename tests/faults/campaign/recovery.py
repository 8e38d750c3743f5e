"""When the service was at work again after a fault."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """What the API said of one picture or training at one moment."""

    time: float
    id: str
    kind: str
    accepted: float
    status: str
    stand: tuple[int, str, int]
    """Attempt, stage, step."""


def recovered_at(samples: Sequence[Sample], since: float, over: float, *, new_attempt: bool = False) -> float | None:
    """When a picture that was accepted after the fault was completed, or a training that was hit was seen to move.

    `samples` in the order of their times. With `new_attempt` a training moves only when a new attempt runs, for a fault
    that ends the attempt: what is heard of the old one after it was on its way already.
    """
    pictures = [one.time for one in samples if one.status == "completed" and one.accepted >= since]
    moves = _attempts(samples, since) if new_attempt else _changes(samples, over)
    return min([*pictures[:1], *list(moves)[:1]], default=None)


def _changes(samples: Sequence[Sample], over: float) -> Iterable[float]:
    """A training differs from what it was when the fault was over: by then all that was before had been said."""
    before: dict[str, tuple[int, str, int]] = {}
    for one in samples:
        if one.kind != "training" or one.time < over:
            continue
        if one.stand != before.setdefault(one.id, one.stand) and one.status in ("training", "completed"):
            yield one.time


def _attempts(samples: Sequence[Sample], since: float) -> Iterable[float]:
    before: dict[str, int] = {}
    for one in samples:
        if one.kind == "training" and one.time < since:
            before[one.id] = one.stand[0]
        elif one.kind == "training" and one.status == "training" and one.stand[0] > before.get(one.id, one.stand[0]):
            yield one.time
