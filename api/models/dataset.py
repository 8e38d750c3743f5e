"""Training images, and the set they belong to."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlmodel import Field, Index, SQLModel

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
    revision: int = Field(default=0, sa_column_kwargs={"server_default": sa.text("0")})
    """Counts the changes of its images and captions; whoever adds one holds the row until his transaction ends."""

    @property
    def trigger_word(self) -> str | None:
        word = self.dataset_metadata.get("trigger_word")
        return word if isinstance(word, str) and word else None


class DatasetPicture(SQLModel):
    """What is trained on: a picture with its caption, now or in a version."""

    position: int
    filename: str
    """The client's name for it; never a path here."""
    key: str = Field(index=True)
    """Where the bytes are in storage."""
    sha256: str
    size_bytes: int
    width: int
    height: int
    caption: str = ""
    caption_source: str = ""
    caption_provenance: dict[str, Any] = Field(
        default_factory=dict, sa_type=JSON_TYPE, sa_column_kwargs={"server_default": "{}"}
    )
    """Of a caption that a machine has written: with what, and when."""


class DatasetImage(DatasetPicture, table=True):
    __tablename__ = "dataset_image"
    __table_args__ = (Index("ix_dataset_image_order", "dataset_id", "position", "id"),)

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    dataset_id: UUID = Field(foreign_key="dataset.id", ondelete="CASCADE", index=True)
    created_at: datetime = Field(default_factory=utcnow)
