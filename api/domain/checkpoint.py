"""Which training checkpoints are kept, and for how long."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from api.domain.job import Status

LEAST_KEPT = 2
"""Stored of every training that goes on: one may turn out damaged."""
LOSS_STEPS = 50
"""Over about so many steps the loss is smoothed: that of one step is mostly the noise level that was drawn for it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What stays: the `newest`, those at a multiple of `every` steps, and the `best`, by smoothed loss."""

    newest: int
    every: int | None = None
    best: int = 0

    def most(self, steps: int, interval: int) -> int:
        """How many stay at any time, at most, of a training of so many steps with one every `interval`."""
        marked = steps // self.every if self.every else 0
        return min(max(self.newest, LEAST_KEPT) + self.best + marked, steps // interval)


Losses = Mapping[int, float | None]
"""The smoothed loss at each step with a training checkpoint; None where none was told."""


def best(losses: Losses, rule: Rule) -> set[int]:
    """The steps of the lowest losses; of equal ones the later."""
    told = [(loss, -step) for step, loss in losses.items() if loss is not None]
    return {-step for _, step in sorted(told)[: rule.best]}


def prized(losses: Losses, rule: Rule) -> set[int]:
    """The steps that stay whatever comes after them."""
    return best(losses, rule) | {step for step in losses if rule.every and step % rule.every == 0}


def superfluous(losses: Losses, rule: Rule) -> list[int]:
    """The steps whose training checkpoints may go, of those stored."""
    newest = set(sorted(losses)[-max(rule.newest, LEAST_KEPT) :])
    return sorted(losses.keys() - newest - prized(losses, rule))


def smoothed(mean: float | None, steps: int, loss: float) -> float:
    """The smoothed loss after one more step, of which there were `steps` before: first their plain mean."""
    return loss if mean is None else mean + (loss - mean) / min(steps + 1, LOSS_STEPS)


def is_outlived(
    status: str, ended_at: datetime | None, *, now: datetime, keep: timedelta, keep_completed: timedelta
) -> bool:
    """Whether nothing of a session's working state will be used again.

    One that failed or was cancelled may be retried, and then resumes, for as long as `keep`; every retry that ends
    begins that anew. A completed one may be extended for as long as `keep_completed`.
    """
    if ended_at is None:
        return False
    if status == Status.COMPLETED.value:
        return ended_at + keep_completed <= now
    return status in (Status.FAILED.value, Status.CANCELLED.value) and ended_at + keep <= now
