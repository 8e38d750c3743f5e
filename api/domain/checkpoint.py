"""Which training checkpoints are kept, and for how long."""

from collections.abc import Collection
from datetime import datetime, timedelta

from api.domain.job import Status

LEAST_KEPT = 2
"""Stored of every training that goes on: one may turn out damaged."""


def superfluous(stored: Collection[int], kept: int) -> list[int]:
    """The steps whose training checkpoints may go, of those stored, when the newest `kept` stay."""
    return sorted(stored)[: -max(kept, LEAST_KEPT)]


def is_outlived(status: str, ended_at: datetime | None, *, now: datetime, keep: timedelta) -> bool:
    """Whether nothing of a session's working state will be used again.

    A completed one has its LoRA. One that failed or was cancelled may be retried, and then resumes, for as long as
    `keep`; every retry that ends begins that anew.
    """
    if status == Status.COMPLETED.value:
        return True
    return status in (Status.FAILED.value, Status.CANCELLED.value) and ended_at is not None and ended_at + keep <= now
