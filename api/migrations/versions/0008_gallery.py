"""What pictures are found by; favourites, tags, thumbnails, and a time to be restored in.

Revision ID: 0008
Revises: 0007
"""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
import sqlmodel.sql.sqltypes
from alembic import op
from sqlalchemy.dialects import postgresql

from api.domain import search

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

TABLE = "generated_asset"
TEXT = sqlmodel.sql.sqltypes.AutoString
JSON: Any = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
PAGE_ROWS = 1000
ORDER = ["created_at", "id"]
LEADING = ("status", "seed", "workflow", "favourite")
OWN = {
    "sqlite": {"shown": "(created_at, id, words) WHERE deleted_at IS NULL"},
    "postgresql": {
        "shown": "(created_at, id) WHERE deleted_at IS NULL",
        "words": "USING gin (array_to_tsvector(string_to_array(btrim(words), ' '))) WITH (fastupdate = off)",
    },
}
"""SQLite reads all words, newest first and nothing else of the rows; Postgres looks them up."""


def upgrade() -> None:
    op.add_column(TABLE, sa.Column("favourite", sa.Boolean(), nullable=False, server_default=sa.false()))
    op.add_column(TABLE, sa.Column("tags", JSON, nullable=False, server_default="[]"))
    op.add_column(TABLE, sa.Column("deleted_at", sqlmodel.sql.sqltypes.UTCDateTime(), nullable=True))
    op.add_column(TABLE, sa.Column("seed", sa.BigInteger(), nullable=True))
    op.add_column(TABLE, sa.Column("workflow", TEXT(), nullable=True))
    op.add_column(TABLE, sa.Column("words", TEXT(), nullable=False, server_default=sa.text("''")))
    _make_findable(op.get_bind())
    for name in ("created_at", "status"):
        op.drop_index(op.f(f"ix_{TABLE}_{name}"), table_name=TABLE)
    for name in LEADING:
        op.create_index(f"ix_{TABLE}_{name}", TABLE, [name, *ORDER])
    deleted = sa.text("deleted_at IS NOT NULL")
    op.create_index(f"ix_{TABLE}_deleted", TABLE, ORDER, sqlite_where=deleted, postgresql_where=deleted)
    for name, definition in OWN[op.get_bind().dialect.name].items():
        op.execute(f"CREATE INDEX ix_{TABLE}_{name} ON {TABLE} {definition}")
    op.create_table(
        "thumbnail",
        sa.Column("asset_id", sa.Uuid(), nullable=False),
        sa.Column("size", TEXT(), nullable=False),
        sa.Column("storage_path", TEXT(), nullable=False),
        sa.ForeignKeyConstraint(["asset_id"], [f"{TABLE}.id"], name=op.f(f"fk_thumbnail_asset_id_{TABLE}")),
        sa.PrimaryKeyConstraint("asset_id", "size", name=op.f("pk_thumbnail")),
    )


def downgrade() -> None:
    op.drop_table("thumbnail")
    for name in (*LEADING, "deleted", *OWN[op.get_bind().dialect.name]):
        op.drop_index(f"ix_{TABLE}_{name}", table_name=TABLE)
    for name in ("created_at", "status"):
        op.create_index(op.f(f"ix_{TABLE}_{name}"), TABLE, [name], unique=False)
    for name in ("words", "workflow", "seed", "deleted_at", "tags", "favourite"):
        op.drop_column(TABLE, name)


def _make_findable(connection: sa.Connection) -> None:
    """The same of the rows that are there as of those that will come."""
    ids: list[sa.ColumnClause[Any]] = [sa.column("id", sa.Uuid()), sa.column("model_id", sa.Uuid())]
    texts: list[sa.ColumnClause[Any]] = [sa.column("prompt"), sa.column("negative_prompt")]
    new: list[sa.ColumnClause[Any]] = [sa.column(name) for name in ("seed", "workflow", "words")]
    config: sa.ColumnClause[Any] = sa.column("generation_config", JSON)
    table = sa.table(TABLE, *ids, *texts, config, *new)
    last: sa.ColumnElement[bool] = sa.true()
    while rows := connection.execute(
        sa.select(*ids, *texts, config).where(last).order_by(table.c.id).limit(PAGE_ROWS)
    ).all():
        connection.execute(
            sa.update(table)
            .where(table.c.id == sa.bindparam("row_id"))
            .values(
                seed=sa.bindparam("new_seed"), workflow=sa.bindparam("new_workflow"), words=sa.bindparam("new_words")
            ),
            [_found_by(row) for row in rows],
        )
        last = table.c.id > rows[-1].id


def _found_by(row: Any) -> dict[str, Any]:
    config = row.generation_config
    text = search.document(
        prompt=row.prompt, negative_prompt=row.negative_prompt, tags=(), model_id=row.model_id, config=config
    )
    return {
        "row_id": row.id,
        "new_seed": config.get("seed"),
        "new_workflow": config.get("workflow"),
        "new_words": text,
    }
