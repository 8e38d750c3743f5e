"""What is measured of pictures before they are trained on, and what a session keeps of it.

Revision ID: 0015
Revises: 0014
"""

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

TEXT = sqlmodel.sql.sqltypes.AutoString
TIME = sqlmodel.sql.sqltypes.UTCDateTime
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.create_table(
        "image_measurement",
        sa.Column("sha256", TEXT(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("found", JSON, nullable=False),
        sa.Column("preview", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", TIME(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", "version", name=op.f("pk_image_measurement")),
    )
    op.add_column("training_session", sa.Column("preflight", JSON, nullable=True))


def downgrade() -> None:
    op.drop_column("training_session", "preflight")
    op.drop_table("image_measurement")
