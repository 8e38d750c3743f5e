"""Datasets that are edited: versions, an undo log of captions, thumbnails.

Revision ID: 0010
Revises: 0009
"""

from typing import Any

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TEXT = sqlmodel.sql.sqltypes.AutoString
TIME = sqlmodel.sql.sqltypes.UTCDateTime
JSON: Any = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("dataset", sa.Column("revision", sa.Integer(), nullable=False, server_default=sa.text("0")))
    op.add_column("dataset_image", _provenance())
    op.create_index(op.f("ix_dataset_image_key"), "dataset_image", ["key"])
    op.create_index("ix_dataset_image_order", "dataset_image", ["dataset_id", "position", "id"])
    _create_versions()
    _create_undo_log()
    op.create_table(
        "dataset_thumbnail",
        sa.Column("image_id", sa.Uuid(), nullable=False),
        sa.Column("size", TEXT(), nullable=False),
        sa.Column("storage_path", TEXT(), nullable=False),
        _belongs("dataset_thumbnail", "image_id", "dataset_image"),
        sa.PrimaryKeyConstraint("image_id", "size", name=op.f("pk_dataset_thumbnail")),
    )
    op.create_index(op.f("ix_dataset_thumbnail_storage_path"), "dataset_thumbnail", ["storage_path"])
    op.add_column("training_session", sa.Column("dataset_version_id", sa.Uuid(), nullable=True))
    op.create_index(op.f("ix_training_session_dataset_version_id"), "training_session", ["dataset_version_id"])


def _create_versions() -> None:
    op.create_table(
        "dataset_version",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("sha256", TEXT(), nullable=False),
        sa.Column("trigger_word", TEXT(), nullable=True),
        sa.Column("image_count", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("created_at", TIME(), nullable=False),
        _belongs("dataset_version", "dataset_id", "dataset"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset_version")),
    )
    op.create_index("ix_dataset_version_content", "dataset_version", ["dataset_id", "sha256"], unique=True)
    op.create_index("ix_dataset_version_number", "dataset_version", ["dataset_id", "number"], unique=True)
    op.create_index(op.f("ix_dataset_version_created_at"), "dataset_version", ["created_at"])
    op.create_table(
        "dataset_version_image",
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("filename", TEXT(), nullable=False),
        sa.Column("key", TEXT(), nullable=False),
        sa.Column("sha256", TEXT(), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("caption", TEXT(), nullable=False),
        sa.Column("caption_source", TEXT(), nullable=False),
        _provenance(),
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("image_id", sa.Uuid(), nullable=False),
        _belongs("dataset_version_image", "version_id", "dataset_version"),
        sa.PrimaryKeyConstraint("version_id", "image_id", name=op.f("pk_dataset_version_image")),
    )
    op.create_index(op.f("ix_dataset_version_image_key"), "dataset_version_image", ["key"])


def _create_undo_log() -> None:
    op.create_table(
        "caption_edit",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("dataset_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("what", TEXT(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", TIME(), nullable=False),
        sa.Column("undone_at", TIME(), nullable=True),
        _belongs("caption_edit", "dataset_id", "dataset"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_caption_edit")),
    )
    op.create_index("ix_caption_edit_number", "caption_edit", ["dataset_id", "number"], unique=True)
    for column in ("job_id", "created_at"):
        op.create_index(op.f(f"ix_caption_edit_{column}"), "caption_edit", [column])
    op.create_table(
        "caption_change",
        sa.Column("edit_id", sa.Uuid(), nullable=False),
        sa.Column("image_id", sa.Uuid(), nullable=False),
        sa.Column("before", JSON, nullable=False),
        sa.Column("after", JSON, nullable=False),
        _belongs("caption_change", "edit_id", "caption_edit"),
        sa.PrimaryKeyConstraint("edit_id", "image_id", name=op.f("pk_caption_change")),
    )


def _belongs(table: str, column: str, owner: str) -> sa.ForeignKeyConstraint:
    name = op.f(f"fk_{table}_{column}_{owner}")
    return sa.ForeignKeyConstraint([column], [f"{owner}.id"], name=name, ondelete="CASCADE")


def _provenance() -> sa.Column[Any]:
    return sa.Column("caption_provenance", JSON, nullable=False, server_default="{}")


def downgrade() -> None:
    op.drop_index(op.f("ix_training_session_dataset_version_id"), table_name="training_session")
    op.drop_column("training_session", "dataset_version_id")
    for table in ("dataset_thumbnail", "caption_change", "caption_edit", "dataset_version_image", "dataset_version"):
        op.drop_table(table)
    for name in ("order", "key"):
        op.drop_index(f"ix_dataset_image_{name}", table_name="dataset_image")
    op.drop_column("dataset_image", "caption_provenance")
    op.drop_column("dataset", "revision")
