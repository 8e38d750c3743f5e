"""when jobs of a kind ended, for fairness and for what is told of a queue."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("ix_job_ended", "job", ["queue", "kind", "status", "finished_at"])


def downgrade() -> None:
    op.drop_index("ix_job_ended", table_name="job")
