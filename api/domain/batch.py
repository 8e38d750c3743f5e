"""How far the pictures of one request have come, taken together. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from api.domain.job import TERMINAL, Kind, Status
from api.domain.progress import Snapshot

GENERATING = Kind.IMAGE.running_word
STATUSES = (Status.PENDING.value, GENERATING, Status.COMPLETED.value, Status.FAILED.value, Status.CANCELLED.value)
"""What an asset shows, in the order of its life."""
ENDED = frozenset(status.value for status in TERMINAL)


@dataclass(frozen=True, slots=True)
class Member:
    """A picture of a batch."""

    asset_id: UUID
    task_id: UUID
    status: str
    progress: float = 0.0
    """0..100; of one that has ended, however it did, 100."""

    @property
    def ended(self) -> bool:
        return self.status in ENDED


def counts_of(statuses: Sequence[str]) -> dict[str, int]:
    """How many have each status; every status is named."""
    found = Counter(statuses)
    return {status: found[status] for status in STATUSES}


def status_of(counts: dict[str, int]) -> str:
    """Of the whole: the worst end of any, once all have ended."""
    if counts["pending"] == sum(counts.values()) > 0:
        return "pending"
    if counts["pending"] or counts[GENERATING]:
        return GENERATING
    return next((status for status in ("failed", "cancelled") if counts[status]), "completed")


def snapshot_of(members: Sequence[Member]) -> Snapshot:
    """The batch as the stream shows it: a step is a picture."""
    counts = counts_of([member.status for member in members])
    status, ended, total = status_of(counts), sum(member.ended for member in members), len(members)
    drawn = sum(member.progress for member in members)
    return Snapshot(
        status=status,
        progress=drawn / total if total else 100.0,
        message=_message(counts, ended, total),
        stage="waiting" if status == "pending" else "drawing" if status == GENERATING else status,
        step=ended,
        total_steps=total,
    )


def _message(counts: dict[str, int], ended: int, total: int) -> str:
    apart = [f"{counts[status]} {status}" for status in ("failed", "cancelled") if counts[status]]
    return f"{ended} of {total} pictures done" + (f", {' and '.join(apart)}" if apart else "")
