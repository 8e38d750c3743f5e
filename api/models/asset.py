"""One picture or clip, asked for or made."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlmodel import Field, SQLModel

from api.models.base import JSON_TYPE, utcnow


class GeneratedAsset(SQLModel, table=True):
    __tablename__ = "generated_asset"

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    model_id: UUID | None = Field(default=None, foreign_key="model.id", ondelete="SET NULL", index=True)
    """None for the bare base model."""
    asset_type: str = Field(default="image", index=True)
    storage_path: str | None = None
    prompt: str
    negative_prompt: str = ""
    generation_config: dict[str, Any] = Field(default_factory=dict, sa_type=JSON_TYPE)
    """The resolved request (base model, seed, LoRAs ...) and, once made, `output`: width, height, sha256, timings."""
    file_size_mb: float | None = None
    status: str = Field(default="pending", index=True)
    """Mirrors the job's status; written with it, in the same transaction."""
    task_id: UUID | None = Field(default=None, index=True)
    batch_id: UUID | None = Field(default=None, index=True)
    """Those that were asked for together have the same one; None for a picture that was asked for alone."""
    error_message: str | None = None
    created_at: datetime = Field(default_factory=utcnow, index=True)
    completed_at: datetime | None = None
