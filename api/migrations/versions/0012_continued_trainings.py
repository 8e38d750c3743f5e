"""Trainings that go on from another one, and the loss at a training checkpoint.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("training_session", sa.Column("parent_session_id", sa.Uuid(), nullable=True))
    op.add_column("training_session", sa.Column("start_step", sa.Integer(), nullable=False, server_default="0"))
    op.create_index(
        op.f("ix_training_session_parent_session_id"), "training_session", ["parent_session_id"], unique=False
    )
    op.add_column("training_checkpoint", sa.Column("loss", sa.Float(), nullable=True))


def downgrade() -> None:
    op.drop_column("training_checkpoint", "loss")
    op.drop_index(op.f("ix_training_session_parent_session_id"), table_name="training_session")
    op.drop_column("training_session", "start_step")
    op.drop_column("training_session", "parent_session_id")
