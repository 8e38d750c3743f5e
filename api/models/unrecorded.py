"""A file that is being stored and that no other row names yet."""

from datetime import datetime

from sqlmodel import Field, SQLModel

from api.models.base import utcnow


class UnrecordedFile(SQLModel, table=True):
    __tablename__ = "unrecorded_file"

    key: str = Field(primary_key=True)
    """Of the storage; made up for this one try to store, so it is nobody else's."""
    owner: str
    """Who stores it, as in `api.lease`: when he is dead, nobody will record it."""
    created_at: datetime = Field(default_factory=utcnow)
