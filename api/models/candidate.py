"""The LoRA of one training checkpoint: drawn with to choose the best, and promoted to a `Model`."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlmodel import BigInteger, Field, Index, SQLModel

from api.models.base import JSON_TYPE, utcnow

CURRENT: Any = sa.text("NOT superseded")


class TrainingCandidate(SQLModel, table=True):
    """Written once its file is stored, and never changed but to say that the file is gone, or that it has a successor.

    The row outlives its file: it says that this step has had its turn.
    """

    __tablename__ = "training_candidate"
    __table_args__ = (
        Index(
            "ix_training_candidate_current",
            "session_id",
            "step",
            unique=True,
            sqlite_where=CURRENT,
            postgresql_where=CURRENT,
        ),
    )

    id: UUID = Field(default_factory=uuid4, primary_key=True)
    session_id: UUID = Field(foreign_key="training_session.id", index=True)
    step: int
    superseded: bool = Field(default=False, sa_column_kwargs={"server_default": sa.false()})
    """The trainer went on from an earlier step since: what it saves at this step next takes this one's place."""
    name: str
    base_model: str
    trigger_word: str | None = None
    storage_path: str | None = Field(default=None, index=True)
    """With its alpha, as ComfyUI reads it; named by content. None once it is removed, or where it was no sound LoRA."""
    sha256: str = ""
    size_bytes: int = Field(default=0, sa_type=BigInteger)
    rank: int = 0
    modules: int = 0
    loss: float | None = None
    card: dict[str, Any] = Field(default_factory=dict, sa_type=JSON_TYPE)
    """How it was made, as `domain.card` has it; what a `Model` made of this is given."""
    created_at: datetime = Field(default_factory=utcnow, index=True)

    @property
    def file_name(self) -> str:
        return (self.storage_path or "").rpartition("/")[2]
