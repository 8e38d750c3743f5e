"""Answers kept so that a repeated POST gets the first one again."""

from datetime import datetime
from typing import Any

from sqlmodel import Field, SQLModel

from api.models.base import JSON_TYPE, utcnow


class StoredAnswer(SQLModel, table=True):
    __tablename__ = "stored_answer"

    key: str = Field(primary_key=True)
    fingerprint: str
    owner: str
    """Who carries the request out; fences a slow first try from a second that took over."""
    status_code: int | None = None
    """None while the first request is still being carried out."""
    body: dict[str, Any] = Field(default_factory=dict, sa_type=JSON_TYPE)
    media_type: str = "application/json"
    created_at: datetime = Field(default_factory=utcnow, index=True)
    touched_at: datetime = Field(default_factory=utcnow)
