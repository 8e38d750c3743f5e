"""LoRAs that come from the web, and those that were deleted and can be restored.

Revision ID: 0009
Revises: 0008
"""

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TEXT = sqlmodel.sql.sqltypes.AutoString
TIME = sqlmodel.sql.sqltypes.UTCDateTime


def upgrade() -> None:
    op.add_column("model", sa.Column("deleted_at", TIME(), nullable=True))
    op.create_index(op.f("ix_model_deleted_at"), "model", ["deleted_at"], unique=False)
    op.create_table(
        "model_import",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("model_id", sa.Uuid(), nullable=True),
        sa.Column("duplicate", sa.Boolean(), nullable=False),
        sa.Column("name", TEXT(), nullable=False),
        sa.Column("source", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("sha256", TEXT(), nullable=True),
        sa.Column("base_model", TEXT(), nullable=True),
        sa.Column("trigger_word", TEXT(), nullable=True),
        sa.Column("status", TEXT(), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=True),
        sa.Column("error_message", TEXT(), nullable=True),
        sa.Column("created_at", TIME(), nullable=False),
        sa.Column("completed_at", TIME(), nullable=True),
        sa.ForeignKeyConstraint(
            ["model_id"], ["model.id"], name=op.f("fk_model_import_model_id_model"), ondelete="SET NULL"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_import")),
    )
    for column in ("model_id", "status", "task_id", "created_at"):
        op.create_index(op.f(f"ix_model_import_{column}"), "model_import", [column], unique=False)


def downgrade() -> None:
    for column in ("created_at", "task_id", "status", "model_id"):
        op.drop_index(op.f(f"ix_model_import_{column}"), table_name="model_import")
    op.drop_table("model_import")
    op.drop_index(op.f("ix_model_deleted_at"), table_name="model")
    op.drop_column("model", "deleted_at")
