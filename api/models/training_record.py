"""What is kept of the way a training has gone: its course, its samples and its log."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlmodel import BigInteger, Field, SQLModel, UniqueConstraint

from api.models.base import JSON_TYPE, utcnow


class TrainingMetrics(SQLModel, table=True):
    """The steps of one chunk (`domain.curve.chunk_of`); writing them again changes nothing."""

    __tablename__ = "training_metrics"

    session_id: UUID = Field(foreign_key="training_session.id", primary_key=True)
    chunk: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    points: list[list[Any]] = Field(default_factory=list, sa_type=JSON_TYPE)
    """`domain.curve.Point`, field by field, by step."""
    checkpoints: list[int] = Field(default_factory=list, sa_type=JSON_TYPE)


class TrainingSample(SQLModel, table=True):
    """A picture that the trainer drew at a step; the constraint keeps it from being stored twice."""

    __tablename__ = "training_sample"
    __table_args__ = (UniqueConstraint("session_id", "step", "position"),)

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    session_id: UUID = Field(foreign_key="training_session.id")
    step: int
    position: int
    """Of its prompt among the session's `sample_prompts`."""
    asset_id: UUID | None = Field(default=None, foreign_key="generated_asset.id", ondelete="SET NULL", index=True)
    """None once its picture was purged; the row stays, so that it is not stored again."""
    created_at: datetime = Field(default_factory=utcnow)


class TrainingLog(SQLModel, table=True):
    """What a trainer printed, in storage once its run is over."""

    __tablename__ = "training_log"

    session_id: UUID = Field(foreign_key="training_session.id", primary_key=True)
    stream: str = Field(primary_key=True)
    """`stdout` or `stderr`."""
    run: float
    """When the run began, in seconds since the epoch: one run's log is stored once."""
    storage_path: str
    size_bytes: int = Field(sa_type=BigInteger)
    created_at: datetime = Field(default_factory=utcnow)
