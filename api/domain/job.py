"""The life of a job: its states, which change may follow which, and what a failure leads to."""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})

NEXT: dict[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.RUNNING, Status.CANCELLED}),
    Status.RUNNING: frozenset({Status.PENDING, Status.COMPLETED, Status.FAILED, Status.CANCELLED}),
    Status.COMPLETED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}
"""Terminal jobs never change: a retry is a new job."""


class Queue(StrEnum):
    GPU = "gpu"
    CPU = "cpu"


class Kind(StrEnum):
    """What a job does. `exclusive` kinds need the whole GPU, the others share it."""

    TRAINING = "training"
    IMAGE = "image"
    IMPORT = "import"
    """Of a LoRA from the web."""
    CAPTION = "caption"
    """Of the images of a dataset, by a captioner."""

    @property
    def queue(self) -> Queue:
        return Queue.CPU if self is Kind.IMPORT else Queue.GPU

    @property
    def exclusive(self) -> bool:
        return self in (Kind.TRAINING, Kind.CAPTION)

    @property
    def running_word(self) -> str:
        """How the API shows `running` of this kind."""
        words = {
            Kind.TRAINING: "training",
            Kind.IMAGE: "generating",
            Kind.IMPORT: "importing",
            Kind.CAPTION: "captioning",
        }
        return words[self]


def shown(kind: Kind, status: Status) -> str:
    return kind.running_word if status is Status.RUNNING else status.value


LEASE_SECONDS = 10.0
HEARTBEAT_SECONDS = 2.0
MAX_ATTEMPTS = 3
AFFINITY_MAX_WAIT_SECONDS = 60.0
"""A pending job older than this goes before younger ones that would save a LoRA switch."""


@dataclass(frozen=True, slots=True)
class Requeue:
    """Back to pending, as this attempt."""

    attempt: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Failed for good."""

    code: str


Decision = Requeue | GiveUp


def after_loss(attempt: int, max_attempts: int) -> Decision:
    """What happens to a running job whose worker died or stopped renewing its lease."""
    return after_retryable(attempt, max_attempts, code="worker_lost")


def after_retryable(attempt: int, max_attempts: int, *, code: str) -> Decision:
    """What happens after a failure that another attempt may not meet again."""
    return Requeue(attempt + 1) if attempt < max_attempts else GiveUp(code)


class StopReason(StrEnum):
    """Why a running attempt is told to stop; a bare cancellation would not say."""

    USER = "user"
    SHUTDOWN = "shutdown"
    LEASE_LOST = "lease_lost"
