"""Webhooks: whom a job tells of its end, and the outbox of what is told.

Revision ID: 0007
Revises: 0006
"""

from collections.abc import Sequence

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TEXT = sqlmodel.sql.sqltypes.AutoString
TIME = sqlmodel.sql.sqltypes.UTCDateTime


def upgrade() -> None:
    op.add_column("job", sa.Column("webhook_url", TEXT(), nullable=True))
    op.create_table(
        "webhook_delivery",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("type", TEXT(), nullable=False),
        sa.Column("url", TEXT(), nullable=False),
        sa.Column("receiver", TEXT(), nullable=False),
        sa.Column("body", TEXT(), nullable=False),
        sa.Column("status", TEXT(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("due_at", TIME(), nullable=False),
        sa.Column("lease_until", TIME(), nullable=True),
        sa.Column("log", sa.JSON().with_variant(postgresql.JSONB(), "postgresql"), nullable=False),
        sa.Column("created_at", TIME(), nullable=False),
        sa.Column("finished_at", TIME(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_delivery")),
    )
    op.create_index("ix_webhook_delivery_due", "webhook_delivery", ["status", "due_at"])
    op.create_index("ix_webhook_delivery_finished", "webhook_delivery", ["finished_at"])
    op.create_index(op.f("ix_webhook_delivery_job_id"), "webhook_delivery", ["job_id"])
    op.create_index(op.f("ix_webhook_delivery_created_at"), "webhook_delivery", ["created_at"])


def downgrade() -> None:
    op.drop_table("webhook_delivery")
    op.drop_column("job", "webhook_url")
