"""Which installation this database is: the one whose backups may follow each other."""

from datetime import datetime
from uuid import UUID, uuid4

from sqlmodel import Field, SQLModel

from api.models.base import utcnow


class Installation(SQLModel, table=True):
    """One row, written when it is first asked for, and brought along by a restore."""

    one: bool = Field(default=True, primary_key=True)
    """Always true, so that there is no second row."""
    id: UUID = Field(default_factory=uuid4)
    created_at: datetime = Field(default_factory=utcnow)
