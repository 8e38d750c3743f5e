"""Captionings of datasets.

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

TEXT = sqlmodel.sql.sqltypes.AutoString
TIME = sqlmodel.sql.sqltypes.UTCDateTime


def upgrade() -> None:
    op.create_table(
        "captioning",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("captioner", TEXT(), nullable=False),
        sa.Column("style", TEXT(), nullable=True),
        sa.Column("prompt", TEXT(), nullable=False),
        sa.Column("trigger_word", TEXT(), nullable=True),
        sa.Column("overwrite", TEXT(), nullable=False),
        sa.Column("revision", TEXT(), nullable=True),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("status", TEXT(), nullable=False),
        sa.Column("task_id", sa.Uuid(), nullable=True),
        sa.Column("error_message", TEXT(), nullable=True),
        sa.Column("created_at", TIME(), nullable=False),
        sa.Column("completed_at", TIME(), nullable=True),
        sa.ForeignKeyConstraint(
            ["dataset_id"], ["dataset.id"], name=op.f("fk_captioning_dataset_id_dataset"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_captioning")),
    )
    for column in ("dataset_id", "status", "task_id", "created_at"):
        op.create_index(op.f(f"ix_captioning_{column}"), "captioning", [column], unique=False)
    op.create_table(
        "captioning_image",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("captioning_id", sa.Uuid(), nullable=False),
        sa.Column("image_id", sa.Uuid(), nullable=False),
        sa.Column("filename", TEXT(), nullable=False),
        sa.Column("before", TEXT(), nullable=False),
        sa.Column("status", TEXT(), nullable=False),
        sa.Column("caption", TEXT(), nullable=True),
        sa.Column("error_code", TEXT(), nullable=True),
        sa.Column("error_message", TEXT(), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", TIME(), nullable=False),
        sa.Column("finished_at", TIME(), nullable=True),
        sa.ForeignKeyConstraint(
            ["captioning_id"],
            ["captioning.id"],
            name=op.f("fk_captioning_image_captioning_id_captioning"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_captioning_image")),
    )
    op.create_index(op.f("ix_captioning_image_captioning_id"), "captioning_image", ["captioning_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_captioning_image_captioning_id"), table_name="captioning_image")
    op.drop_table("captioning_image")
    for column in ("created_at", "task_id", "status", "dataset_id"):
        op.drop_index(op.f(f"ix_captioning_{column}"), table_name="captioning")
    op.drop_table("captioning")
