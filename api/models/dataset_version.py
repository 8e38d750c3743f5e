"""A dataset as it was at some time; nothing of it ever changes."""

from datetime import datetime
from uuid import UUID, uuid4

from sqlmodel import Field, Index, SQLModel

from api.models.base import utcnow
from api.models.dataset import DatasetPicture


class DatasetVersion(SQLModel, table=True):
    """One for each content: what is the same again is the same version."""

    __tablename__ = "dataset_version"
    __table_args__ = (
        Index("ix_dataset_version_content", "dataset_id", "sha256", unique=True),
        Index("ix_dataset_version_number", "dataset_id", "number", unique=True),
    )

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    dataset_id: UUID = Field(foreign_key="dataset.id", ondelete="CASCADE")
    number: int
    """1 for the first of its dataset."""
    sha256: str
    """Of trigger word, pictures and captions, in their order: `domain.dataset_content.content_sha256`."""
    trigger_word: str | None = None
    image_count: int
    revision: int
    """The dataset's when it last was the same as this version."""
    created_at: datetime = Field(default_factory=utcnow, index=True)


class DatasetVersionImage(DatasetPicture, table=True):
    __tablename__ = "dataset_version_image"

    version_id: UUID = Field(foreign_key="dataset_version.id", ondelete="CASCADE", primary_key=True)
    image_id: UUID = Field(primary_key=True)
    """Of the image in the dataset; it has the same one again when the version is restored."""
