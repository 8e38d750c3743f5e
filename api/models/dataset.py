"""Training images, and the set they belong to."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlmodel import Field, SQLModel

from api.models.base import JSON_TYPE, utcnow


class Dataset(SQLModel, table=True):
    id: UUID = Field(default_factory=uuid4, primary_key=True)
    name: str
    storage_path: str
    image_count: int = 0
    video_count: int = 0
    is_processed: bool = False
    captions_generated: bool = False
    dataset_metadata: dict[str, Any] = Field(default_factory=dict, sa_type=JSON_TYPE)
    """trigger_word, caption_style, preprocessing_params."""
    created_at: datetime = Field(default_factory=utcnow, index=True)
    updated_at: datetime = Field(default_factory=utcnow)

    @property
    def trigger_word(self) -> str | None:
        word = self.dataset_metadata.get("trigger_word")
        return word if isinstance(word, str) and word else None


class DatasetImage(SQLModel, table=True):
    __tablename__ = "dataset_image"

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    dataset_id: UUID = Field(foreign_key="dataset.id", ondelete="CASCADE", index=True)
    position: int
    filename: str
    """The client's name for it; never a path here."""
    key: str
    """Where the bytes are in storage."""
    sha256: str
    size_bytes: int
    width: int
    height: int
    caption: str = ""
    caption_source: str = ""
    created_at: datetime = Field(default_factory=utcnow)
