"""Workflow templates of the user, input pictures, and ComfyUI's nodes.

Revision ID: 0005
Revises: 0004
"""

from collections.abc import Sequence

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TEXT = sqlmodel.sql.sqltypes.AutoString
TIME = sqlmodel.sql.sqltypes.UTCDateTime


def upgrade() -> None:
    op.create_table(
        "workflow",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", TEXT(), nullable=False),
        sa.Column("title", TEXT(), nullable=False),
        sa.Column("description", TEXT(), nullable=False),
        sa.Column("graph", TEXT(), nullable=False),
        sa.Column("created_at", TIME(), nullable=False),
        sa.Column("deleted_at", TIME(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workflow")),
    )
    alive = sa.text("deleted_at IS NULL")
    op.create_index(op.f("ix_workflow_created_at"), "workflow", ["created_at"], unique=False)
    op.create_index(
        "ix_workflow_name_alive", "workflow", ["name"], unique=True, sqlite_where=alive, postgresql_where=alive
    )
    op.create_table(
        "engine_snapshot",
        sa.Column("engine", TEXT(), nullable=False),
        sa.Column("nodes", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("taken_at", TIME(), nullable=False),
        sa.PrimaryKeyConstraint("engine", name=op.f("pk_engine_snapshot")),
    )
    op.create_table(
        "input_image",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("storage_path", TEXT(), nullable=False),
        sa.Column("sha256", TEXT(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("created_at", TIME(), nullable=False),
        sa.Column("used_at", TIME(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_input_image")),
    )
    op.create_index(op.f("ix_input_image_used_at"), "input_image", ["used_at"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_input_image_used_at"), table_name="input_image")
    op.drop_table("input_image")
    op.drop_table("engine_snapshot")
    op.drop_index("ix_workflow_name_alive", table_name="workflow")
    op.drop_index(op.f("ix_workflow_created_at"), table_name="workflow")
    op.drop_table("workflow")
