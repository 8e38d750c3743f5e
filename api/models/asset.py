"""One picture or clip, asked for or made."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.orm import Mapper
from sqlmodel import BigInteger, Field, Index, SQLModel

from api.domain import search
from api.domain.generation import MAX_SEED
from api.models.base import JSON_TYPE, utcnow

DELETED: Any = sa.text("deleted_at IS NOT NULL")


class GeneratedAsset(SQLModel, table=True):
    """Every index ends in the order of lists, so that a page is read from it and nothing is sorted.

    The migration adds what models cannot say: on SQLite `ix_generated_asset_shown` holds the words, too, of what is not
    deleted; on Postgres it has the order alone, and `ix_generated_asset_words` is of the kind that looks up words.
    """

    __tablename__ = "generated_asset"
    __table_args__ = (
        Index("ix_generated_asset_favourite", "favourite", "created_at", "id"),
        Index("ix_generated_asset_deleted", "created_at", "id", sqlite_where=DELETED, postgresql_where=DELETED),
        Index("ix_generated_asset_status", "status", "created_at", "id"),
        Index("ix_generated_asset_seed", "seed", "created_at", "id"),
        Index("ix_generated_asset_workflow", "workflow", "created_at", "id"),
    )

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
    status: str = Field(default="pending")
    """Mirrors the job's status; written with it, in the same transaction."""
    task_id: UUID | None = Field(default=None, index=True)
    batch_id: UUID | None = Field(default=None, index=True)
    """Those that were asked for together have the same one; None for a picture that was asked for alone."""
    error_message: str | None = None
    created_at: datetime = Field(default_factory=utcnow)
    completed_at: datetime | None = None
    favourite: bool = Field(default=False, sa_column_kwargs={"server_default": sa.false()})
    tags: list[str] = Field(default_factory=list, sa_type=JSON_TYPE, sa_column_kwargs={"server_default": "[]"})
    deleted_at: datetime | None = None
    """When it was put aside; it can be restored until it is purged."""
    seed: int | None = Field(default=None, sa_type=BigInteger)
    """None also for one that only ComfyUI's canvas can make."""
    workflow: str | None = None
    words: str = Field(default="", sa_column_kwargs={"server_default": sa.text("''")})
    """`domain.search.document` of the rest. It, `seed` and `workflow` are written whenever the row is flushed."""


@sa.event.listens_for(GeneratedAsset, "before_insert")
@sa.event.listens_for(GeneratedAsset, "before_update")
def _make_findable(_mapper: Mapper[Any], _connection: sa.Connection, asset: GeneratedAsset) -> None:
    """Here, so that nobody who adds a picture can forget it."""
    config = asset.generation_config
    seed = config.get("seed")
    asset.seed = seed if isinstance(seed, int) and 0 <= seed <= MAX_SEED else None
    asset.workflow = config.get("workflow")
    asset.words = search.document(
        prompt=asset.prompt,
        negative_prompt=asset.negative_prompt,
        tags=asset.tags,
        model_id=asset.model_id,
        config=config,
    )
