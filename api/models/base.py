"""What every table shares: constraint names, JSON columns, ids and clocks."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import SQLModel

SQLModel.metadata.naming_convention = {
    "ix": "ix_%(column_0_label)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

JSON_TYPE: Any = JSON().with_variant(JSONB(), "postgresql")
"""In-place changes of a JSON value are not saved: assign a new one."""


def utcnow() -> datetime:
    return datetime.now(UTC)
