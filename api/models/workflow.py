"""Workflow templates of the user, and what ComfyUI said of its nodes when it was last started."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlmodel import Field, Index, SQLModel

from api.models.base import JSON_TYPE, utcnow


class Workflow(SQLModel, table=True):
    """Never changed but for its end: pictures name the row that they were made with, and can be made again."""

    __table_args__ = (
        Index(
            "ix_workflow_name_alive",
            "name",
            unique=True,
            sqlite_where=sa.text("deleted_at IS NULL"),
            postgresql_where=sa.text("deleted_at IS NULL"),
        ),
    )

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    name: str
    title: str = ""
    description: str = ""
    graph: str
    """JSON as it came, in the order of its nodes, which a JSON column would not keep."""
    created_at: datetime = Field(default_factory=utcnow, index=True)
    deleted_at: datetime | None = None


class EngineSnapshot(SQLModel, table=True):
    __tablename__ = "engine_snapshot"

    engine: str = Field(primary_key=True)
    nodes: dict[str, Any] = Field(default_factory=dict, sa_type=JSON_TYPE)
    """`domain.nodes.slim` of ComfyUI's `/object_info`."""
    taken_at: datetime = Field(default_factory=utcnow)
