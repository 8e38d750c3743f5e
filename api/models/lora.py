"""A trained or imported LoRA."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlmodel import Field, SQLModel

from api.models.base import JSON_TYPE, utcnow


class Model(SQLModel, table=True):
    id: UUID = Field(default_factory=uuid4, primary_key=True)
    training_session_id: UUID | None = Field(
        default=None, foreign_key="training_session.id", ondelete="SET NULL", index=True
    )
    """None when imported."""
    name: str
    version: int = 1
    model_type: str = Field(default="flux_image", index=True)
    base_model: str = Field(index=True)
    storage_path: str
    """`models/<slug>-<hash8>.safetensors`: named by content, never overwritten."""
    file_size_mb: float
    trigger_word: str | None = None
    model_metadata: dict[str, Any] = Field(default_factory=dict, sa_type=JSON_TYPE)
    """sha256, size_bytes, rank, alpha, tensors, steps."""
    card: dict[str, Any] = Field(default_factory=dict, sa_type=JSON_TYPE, sa_column_kwargs={"server_default": "{}"})
    """How it was made, as `domain.card` has it, written down when it was registered: what it says stays true."""
    created_at: datetime = Field(default_factory=utcnow, index=True)
    deleted_at: datetime | None = Field(default=None, index=True)
    """Out of sight since then, and to be restored until its file is removed."""

    @property
    def file_name(self) -> str:
        return self.storage_path.rpartition("/")[2]
