"""Pictures that were asked for together."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlmodel import Field, SQLModel

from api.models.base import JSON_TYPE, utcnow


class Batch(SQLModel, table=True):
    """Written once, with its pictures, and kept when they go."""

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    total: int
    """How many pictures were asked for."""
    request: dict[str, Any] = Field(default_factory=dict, sa_type=JSON_TYPE)
    """As it was sent."""
    created_at: datetime = Field(default_factory=utcnow, index=True)
