"""The undo log of captions: steps, and what each has changed."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlmodel import Field, Index, SQLModel

from api.models.base import JSON_TYPE, utcnow


class CaptionEdit(SQLModel, table=True):
    """One step, to be undone as a whole."""

    __tablename__ = "caption_edit"
    __table_args__ = (Index("ix_caption_edit_number", "dataset_id", "number", unique=True),)

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    dataset_id: UUID = Field(foreign_key="dataset.id", ondelete="CASCADE")
    number: int
    """1 for the first of its dataset."""
    what: str
    """For people: what was done."""
    job_id: UUID | None = Field(default=None, index=True)
    """Of a job that writes one caption after the other; all of them are one step."""
    created_at: datetime = Field(default_factory=utcnow, index=True)
    undone_at: datetime | None = None


class CaptionChange(SQLModel, table=True):
    """`before` and `after` are `{caption, caption_source, caption_provenance}`."""

    __tablename__ = "caption_change"

    edit_id: UUID = Field(foreign_key="caption_edit.id", ondelete="CASCADE", primary_key=True)
    image_id: UUID = Field(primary_key=True)
    """The image may be gone."""
    before: dict[str, Any] = Field(sa_type=JSON_TYPE)
    after: dict[str, Any] = Field(sa_type=JSON_TYPE)
