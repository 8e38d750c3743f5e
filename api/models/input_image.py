"""A picture that was uploaded for workflows to start from."""

from datetime import datetime
from uuid import UUID

from sqlmodel import Field, SQLModel

from api.models.base import utcnow


class InputImage(SQLModel, table=True):
    __tablename__ = "input_image"

    id: UUID = Field(primary_key=True)
    """Made from the content: one picture has one row, however often it comes."""
    storage_path: str
    sha256: str
    width: int
    height: int
    size_bytes: int
    created_at: datetime = Field(default_factory=utcnow)
    used_at: datetime = Field(default_factory=utcnow, index=True)
    """When it was last uploaded or asked for."""
