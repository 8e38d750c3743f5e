"""How trainings go: their course, their samples, their logs, and what their trainers are asked for.

Revision ID: 0016
Revises: 0015
"""

from typing import Any

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

TEXT = sqlmodel.sql.sqltypes.AutoString
TIME = sqlmodel.sql.sqltypes.UTCDateTime


def _json() -> Any:
    return sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("training_session", sa.Column("trainer_version", TEXT(), nullable=True))
    op.add_column("training_session", sa.Column("checkpoint_asked_at", TIME(), nullable=True))
    op.add_column("training_session", sa.Column("sample_asked_at", TIME(), nullable=True))
    op.create_table(
        "training_metrics",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("chunk", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("points", _json(), nullable=False),
        sa.Column("checkpoints", _json(), nullable=False),
        _of_session("training_metrics"),
        sa.PrimaryKeyConstraint("session_id", "chunk", name=op.f("pk_training_metrics")),
    )
    op.create_table(
        "training_sample",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("asset_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", TIME(), nullable=False),
        _of_session("training_sample"),
        sa.ForeignKeyConstraint(
            ["asset_id"],
            ["generated_asset.id"],
            name=op.f("fk_training_sample_asset_id_generated_asset"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_training_sample")),
        sa.UniqueConstraint("session_id", "step", "position", name=op.f("uq_training_sample_session_id")),
    )
    op.create_index(op.f("ix_training_sample_asset_id"), "training_sample", ["asset_id"], unique=False)
    op.create_table(
        "training_log",
        sa.Column("session_id", sa.Uuid(), nullable=False),
        sa.Column("stream", TEXT(), nullable=False),
        sa.Column("run", sa.Float(), nullable=False),
        sa.Column("storage_path", TEXT(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("created_at", TIME(), nullable=False),
        _of_session("training_log"),
        sa.PrimaryKeyConstraint("session_id", "stream", name=op.f("pk_training_log")),
    )


def downgrade() -> None:
    op.drop_table("training_log")
    op.drop_index(op.f("ix_training_sample_asset_id"), table_name="training_sample")
    op.drop_table("training_sample")
    op.drop_table("training_metrics")
    for column in ("sample_asked_at", "checkpoint_asked_at", "trainer_version"):
        op.drop_column("training_session", column)


def _of_session(table: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_session_id_training_session")
    return sa.ForeignKeyConstraint(["session_id"], ["training_session.id"], name=name)
