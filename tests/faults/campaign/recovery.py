"""When the service was at work again after a fault."""

from collections.abc import Sequence
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


def recovered_at(samples: Sequence[Sample], since: float, over: float) -> float | None:
    """When a picture that was accepted after the fault was completed, or a training that was hit was seen to move.

    `samples` in the order of their times. A training moves when it trains and differs from what it was when the fault
    was `over`: by then everything has been said that had happened before.
    """
    before: dict[str, tuple[int, str, int]] = {}
    for sample in samples:
        if sample.time < since:
            continue
        if sample.status == "completed" and sample.accepted >= since:
            return sample.time
        if sample.kind != "training" or sample.time < over:
            continue
        if sample.stand != before.setdefault(sample.id, sample.stand) and sample.status in ("training", "completed"):
            return sample.time
    return None
