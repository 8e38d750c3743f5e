"""The unit of work: the queue and the truth about what runs."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlmodel import Field, Index, SQLModel

from api.domain.job import MAX_ATTEMPTS, Kind, Queue, Status
from api.models.base import JSON_TYPE, utcnow


class Job(SQLModel, table=True):
    __table_args__ = (
        Index("ix_job_claim", "queue", "status", "priority", "created_at"),
        Index("ix_job_lease", "status", "lease_until"),
        Index("ix_job_ended", "queue", "kind", "status", "finished_at"),
    )

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    kind: str
    queue: str
    status: str = Status.PENDING.value
    priority: int = 0
    affinity: str | None = None
    """Jobs with the same affinity run cheaper one after another: the same base model and LoRAs."""
    attempt: int = 1
    max_attempts: int = MAX_ATTEMPTS
    lease_owner: str | None = None
    """`host|pid|start time|random`: new at every claim, so it also fences off an attempt that lost its lease."""
    lease_until: datetime | None = None
    cancel_requested_at: datetime | None = None
    progress: dict[str, Any] = Field(default_factory=dict, sa_type=JSON_TYPE)
    """The last snapshot."""
    error_code: str | None = None
    error_message: str | None = None
    error_hint: str | None = None
    log_tail: str | None = None
    """The end of the engine's own log, when it failed."""
    webhook_url: str | None = None
    """Told when the job has ended; may hold a secret, so it is never shown."""
    retry_of: UUID | None = Field(default=None, index=True)
    created_at: datetime = Field(default_factory=utcnow, index=True)
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def kind_enum(self) -> Kind:
        return Kind(self.kind)

    @property
    def status_enum(self) -> Status:
        return Status(self.status)

    @classmethod
    def new(
        cls,
        kind: Kind,
        *,
        affinity: str | None = None,
        priority: int = 0,
        webhook_url: str | None = None,
        retry_of: UUID | None = None,
    ) -> "Job":
        return cls(
            kind=kind.value,
            queue=Queue(kind.queue).value,
            affinity=affinity,
            priority=priority,
            webhook_url=webhook_url,
            retry_of=retry_of,
        )
