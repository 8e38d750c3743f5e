"""One training of one LoRA."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlmodel import Field, SQLModel

from api.models.base import JSON_TYPE, utcnow


class TrainingSession(SQLModel, table=True):
    __tablename__ = "training_session"

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    name: str
    dataset_id: UUID | None = Field(default=None, foreign_key="dataset.id", ondelete="SET NULL", index=True)
    dataset_version_id: UUID | None = Field(default=None, index=True)
    """What it is trained on, whatever becomes of the dataset meanwhile. No foreign key: SQLite adds none that is
    complete to a table that is there. A version goes only with its dataset, or while no session names it."""
    parent_session_id: UUID | None = Field(default=None, index=True)
    """The session that this one was extended or cloned from; sessions are never deleted."""
    start_step: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    """Where the parent's working state is taken up; 0: from nothing."""
    model_type: str = "flux_image"
    status: str = Field(default="pending", index=True)
    """Mirrors the job's status; written with it, in the same transaction."""
    config: dict[str, Any] = Field(default_factory=dict, sa_type=JSON_TYPE)
    """The whole request with every default filled in, so that a retry replays it."""
    preflight: dict[str, Any] | None = Field(default=None, sa_type=JSON_TYPE)
    """What was found about the dataset before the start: `domain.preflight.Report.summary`."""
    progress: float = 0.0
    current_step: int = 0
    total_steps: int = 0
    current_loss: float | None = None
    made_with: list[dict[str, Any]] = Field(
        default_factory=list, sa_type=JSON_TYPE, sa_column_kwargs={"server_default": "[]"}
    )
    """For each start of a trainer: `from_step`, and the versions of the engines that there were."""
    task_id: UUID | None = Field(default=None, index=True)
    error_message: str | None = None
    trainer_version: str | None = None
    """Of the SimpleTuner that was last started for it; None before the first start."""
    checkpoint_asked_at: datetime | None = None
    """When a training checkpoint was asked for that is not saved yet."""
    sample_asked_at: datetime | None = None
    """The same of samples."""
    started_at: datetime | None = None
    completed_at: datetime | None = None
    created_at: datetime = Field(default_factory=utcnow, index=True)
    updated_at: datetime = Field(default_factory=utcnow)
