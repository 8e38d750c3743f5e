"""A LoRA on its way in from the web: what was asked for, and which model it has become."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlmodel import Field, SQLModel

from api.models.base import JSON_TYPE, utcnow


class ModelImport(SQLModel, table=True):
    __tablename__ = "model_import"

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    model_id: UUID | None = Field(default=None, foreign_key="model.id", ondelete="SET NULL", index=True)
    """None until it is completed."""
    duplicate: bool = False
    """That model was here before, with the same content."""
    name: str
    source: dict[str, Any] = Field(default_factory=dict, sa_type=JSON_TYPE)
    """`{"url"}`, or `{"repo", "file", "revision"}` of the Hugging Face Hub."""
    sha256: str | None = None
    """What the content must be, when that was said."""
    base_model: str | None = None
    """None: recognised by what is in the file."""
    trigger_word: str | None = None
    status: str = Field(default="pending", index=True)
    """Mirrors the job's status; written with it, in the same transaction."""
    task_id: UUID | None = Field(default=None, index=True)
    error_message: str | None = None
    created_at: datetime = Field(default_factory=utcnow, index=True)
    completed_at: datetime | None = None
