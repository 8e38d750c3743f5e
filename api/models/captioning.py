"""Captionings of datasets: what was asked for, and what became of every image."""

from datetime import datetime
from uuid import UUID, uuid4

from sqlmodel import Field, SQLModel

from api.domain.captioning import ImageStatus
from api.models.base import utcnow


class Captioning(SQLModel, table=True):
    id: UUID = Field(default_factory=uuid4, primary_key=True)
    dataset_id: UUID = Field(foreign_key="dataset.id", ondelete="CASCADE", index=True)
    captioner: str
    style: str | None = None
    """None when the prompt is of the owner's own words."""
    prompt: str = ""
    trigger_word: str | None = None
    """Put in front of every caption that lacks it."""
    overwrite: str = "generated"
    revision: str | None = None
    """The commit of the captioner's weights; None until it begins."""
    total: int = 0
    """Images that are captioned."""
    status: str = Field(default="pending", index=True)
    """Mirrors the job's status; written with it, in the same transaction."""
    task_id: UUID | None = Field(default=None, index=True)
    error_message: str | None = None
    created_at: datetime = Field(default_factory=utcnow, index=True)
    completed_at: datetime | None = None


class CaptioningImage(SQLModel, table=True):
    __tablename__ = "captioning_image"

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    captioning_id: UUID = Field(foreign_key="captioning.id", ondelete="CASCADE", index=True)
    image_id: UUID
    """The image may be gone."""
    filename: str
    before: str = ""
    """The caption when the captioning was asked for: who has changed it since is not overruled."""
    status: str = ImageStatus.PENDING.value
    caption: str | None = None
    """What the captioner said, cleaned, with the trigger word."""
    error_code: str | None = None
    error_message: str | None = None
    failures: int = 0
    """How often the captioner has died or hung on it."""
    job_id: UUID | None = None
    """By which it was done, or failed."""
    created_at: datetime = Field(default_factory=utcnow)
    """Of the order among the others, too: the first one is the newest."""
    finished_at: datetime | None = None
