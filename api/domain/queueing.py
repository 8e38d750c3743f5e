"""Where a pending job stands: its place in the queue, and when its turn may come. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from statistics import median
from uuid import UUID

from api.domain.job import Kind


@dataclass(frozen=True, slots=True)
class Waiting:
    """A pending job; `name` and `total_steps` are those of a training."""

    id: UUID
    kind: Kind
    name: str | None = None
    total_steps: int = 0


@dataclass(frozen=True, slots=True)
class Running:
    kind: Kind
    name: str | None = None
    total_steps: int = 0
    elapsed_seconds: float = 0.0
    eta_seconds: float | None = None
    """Until its end, by its own account."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast work was done lately; None where none was."""

    picture_seconds: float | None = None
    step_seconds: float | None = None
    """Of a training, with everything around its steps."""

    def of(self, kind: Kind, total_steps: int) -> float | None:
        """Seconds that such a job will take."""
        if not kind.exclusive:
            return self.picture_seconds
        return None if self.step_seconds is None or not total_steps else self.step_seconds * total_steps


@dataclass(frozen=True, slots=True)
class Place:
    position: int
    """1 is next."""
    eta_seconds: float | None = None
    """Until its turn comes; None when nothing is known."""
    behind: str | None = None
    """The training that holds it up."""

    @property
    def message(self) -> str:
        where = "next" if self.position == 1 else ordinal(self.position)
        behind = "" if self.behind is None else f", behind the training '{self.behind}'"
        about = "" if self.eta_seconds is None else f" ({_about(self.eta_seconds)})"
        return f"Waiting: {where} in the queue{behind}{about}"


def places(
    in_turn: Sequence[Waiting], running: Sequence[Running], pace: Pace, *, shares: bool = False
) -> dict[UUID, Place]:
    """The place of every pending job, given in the order of their turns.

    `shares`: pictures may be drawn beside a training, if the memory allows; when, nobody can tell then.
    """
    training = next((job for job in running if job.kind.exclusive), None)
    clock = _rest(running, pace)
    found, behind, slack = {}, None if training is None else training.name, _slack(running, pace)
    for position, job in enumerate(in_turn, start=1):
        beside = shares and training is not None and not job.kind.exclusive
        start = None if clock is None or beside else clock if job.kind.exclusive else max(0.0, clock - slack)
        found[job.id] = Place(position, None if start is None else round(start, 1), None if beside else behind)
        if beside:
            continue
        seconds = pace.of(job.kind, job.total_steps)
        clock = None if clock is None or seconds is None else clock + seconds
        behind, slack = (job.name, 0.0) if job.kind.exclusive else (behind, seconds or 0.0)
    return found


def _rest(running: Sequence[Running], pace: Pace) -> float | None:
    """Seconds until all that runs now is done. Where nothing runs nobody knows whether a worker is there at all."""
    rests = [_rest_of(job, pace) for job in running]
    known = [rest for rest in rests if rest is not None]
    return sum(known) if rests and len(known) == len(rests) else None


def _rest_of(job: Running, pace: Pace) -> float | None:
    if job.eta_seconds is not None:
        return job.eta_seconds
    seconds = pace.of(job.kind, job.total_steps)
    if seconds is None or not job.kind.exclusive:
        return seconds
    return max(0.0, seconds - job.elapsed_seconds)


def _slack(running: Sequence[Running], pace: Pace) -> float:
    """A picture's turn comes while the one before it is still being drawn."""
    return 0.0 if any(job.kind.exclusive for job in running) else pace.picture_seconds or 0.0


def pace(pictures: Iterable[tuple[datetime, datetime]], trainings: Iterable[tuple[datetime, datetime, int]]) -> Pace:
    """From what was done lately: (start, end) of pictures, (start, end, steps) of trainings, in any order.

    Two pictures are in flight and one is drawn, so a picture's own time begins when the one before it has ended.
    """
    by_end = sorted(pictures, key=lambda span: span[1])
    own = [(end - max(start, before)).total_seconds() for (_, before), (start, end) in pairwise(by_end)]
    own += [(end - start).total_seconds() for start, end in by_end[:1]]
    steps = [(end - start).total_seconds() / count for start, end, count in trainings if count]
    return Pace(median(own) if own else None, median(steps) if steps else None)


def ordinal(number: int) -> str:
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"


def _about(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    hours, rest = divmod(minutes, 60)
    if not hours:
        return f"about {minutes} min"
    return f"about {hours} h {rest} min" if rest else f"about {hours} h"
