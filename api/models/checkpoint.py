"""Saved state of a training, kept in storage so that another machine can go on with it."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlmodel import BigInteger, Field, SQLModel, UniqueConstraint

from api.models.base import JSON_TYPE, utcnow


class TrainingCheckpoint(SQLModel, table=True):
    """Written before the first of its files and gone after the last, so the storage has no file without a row."""

    __tablename__ = "training_checkpoint"
    __table_args__ = (UniqueConstraint("session_id", "step"),)

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    session_id: UUID = Field(foreign_key="training_session.id")
    """Nothing cascades: a session whose files are still stored cannot be deleted."""
    step: int
    files: list[dict[str, Any]] = Field(default_factory=list, sa_type=JSON_TYPE)
    """name, key; once stored also size and sha256, as read back."""
    size_bytes: int = Field(default=0, sa_type=BigInteger)
    loss: float | None = None
    """Smoothed, at its step."""
    created_at: datetime = Field(default_factory=utcnow)
    stored_at: datetime | None = None
    """None while it is being stored or removed: then none of its files may be relied upon."""
