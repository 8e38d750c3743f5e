"""The LoRAs of training checkpoints, and what is known of how each LoRA was made.

Revision ID: 0013
Revises: 0012
"""

from typing import Any

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

TEXT = sqlmodel.sql.sqltypes.AutoString
CURRENT = sa.text("NOT superseded")


def _json() -> Any:
    return sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "training_candidate",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("superseded", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("name", TEXT(), nullable=False),
        sa.Column("base_model", TEXT(), nullable=False),
        sa.Column("trigger_word", TEXT(), nullable=True),
        sa.Column("storage_path", TEXT(), nullable=True),
        sa.Column("sha256", TEXT(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("modules", sa.Integer(), nullable=False),
        sa.Column("loss", sa.Float(), nullable=True),
        sa.Column("card", _json(), nullable=False),
        sa.Column("created_at", sqlmodel.sql.sqltypes.UTCDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["session_id"], ["training_session.id"], name=op.f("fk_training_candidate_session_id_training_session")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_candidate")),
    )
    for column in ("session_id", "storage_path", "created_at"):
        op.create_index(op.f(f"ix_training_candidate_{column}"), "training_candidate", [column], unique=False)
    op.create_index(
        "ix_training_candidate_current",
        "training_candidate",
        ["session_id", "step"],
        unique=True,
        sqlite_where=CURRENT,
        postgresql_where=CURRENT,
    )
    op.add_column("model", sa.Column("card", _json(), server_default="{}", nullable=False))
    op.add_column("training_session", sa.Column("made_with", _json(), server_default="[]", nullable=False))


def downgrade() -> None:
    op.drop_column("training_session", "made_with")
    op.drop_column("model", "card")
    op.drop_table("training_candidate")
