"""Every row of every table to a file, in one transaction, and back into an empty database of either kind."""

import gzip
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby, islice
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import SQLModel

from api.backup.files import keys_of
from api.db import Sessions
from api.domain.backup import decode, encode, line
from api.storage.files import in_thread

AT_ONCE = 500
BORN_WITH = frozenset({"installation", "engine_snapshot"})
"""Tables that a service fills by itself when it starts: a database with no other rows counts as empty."""


@dataclass
class Dumped:
    tables: Counter[str] = field(default_factory=Counter)
    keys: dict[str, None] = field(default_factory=dict)
    """Of the files that the rows name, each once, in their order."""


async def dump(sessions: Sessions, path: Path) -> Dumped:
    """Write all rows; what others write meanwhile is not seen."""
    dumped = Dumped()
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
        async with sessions() as session:
            await _begin_snapshot(session)
            for table in SQLModel.metadata.sorted_tables:
                await _dump_table(session, table, file, dumped)
    return dumped


async def _begin_snapshot(session: AsyncSession) -> None:
    """From here on this session sees the database as it is at its first look."""
    if session.get_bind().dialect.name == "postgresql":
        await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
    else:  # the driver begins a transaction only before rows are written
        await (await session.connection()).exec_driver_sql("BEGIN")


async def _dump_table(session: AsyncSession, table: sa.Table, file: gzip.GzipFile, dumped: Dumped) -> None:
    # In the order in which they came: a row may name an earlier one of its own table.
    order = [column for column in (table.c.get("created_at"), *table.primary_key) if column is not None]
    async for batch in (await session.stream(sa.select(table).order_by(*order))).mappings().partitions(AT_ONCE):
        lines = []
        for row in batch:
            lines.append(line([table.name, {name: encode(value) for name, value in row.items()}]))
            dumped.keys.update(dict.fromkeys(keys_of(table.name, dict(row))))
        dumped.tables[table.name] += len(lines)
        await in_thread(file.write, b"".join(lines))


def is_empty(connection: sa.Connection) -> bool:
    """Whether nothing would be lost if these tables were made anew."""
    there = set(sa.inspect(connection).get_table_names())
    tables = [table for table in SQLModel.metadata.sorted_tables if table.name in there - BORN_WITH]
    return all(connection.scalar(sa.select(sa.literal(1)).select_from(table).limit(1)) is None for table in tables)


def clear(connection: sa.Connection) -> None:
    """Drop every table, whichever schema they are of."""
    found = sa.MetaData()
    found.reflect(connection)
    found.drop_all(connection)


def read(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(table, row) for each row that `dump` wrote, values as JSON has them."""
    with gzip.open(path, "rb") as file:
        for text in file:
            name, row = json.loads(text)
            yield name, row


def load(connection: sa.Connection, path: Path) -> Counter[str]:
    """Insert what `dump` wrote, whose schema the tables must have; how many rows each got."""
    loaded: Counter[str] = Counter()
    for name, rows in groupby(read(path), key=lambda entry: entry[0]):
        while batch := [row for _, row in islice(rows, AT_ONCE)]:
            connection.execute(*_insert(name, batch))
            loaded[name] += len(batch)
    return loaded


def _insert(name: str, rows: list[dict[str, Any]]) -> tuple[sa.Insert, list[dict[str, Any]]]:
    """By the columns that these rows have, which may be those of an older schema than this version's."""
    known = SQLModel.metadata.tables.get(name)
    types: Mapping[str, sa.types.TypeEngine[Any]] = {} if known is None else {c.name: c.type for c in known.c}
    kinds = {column: _kind(types.get(column)) for column in rows[0]}
    table = sa.table(name, *(sa.column(column, types.get(column)) for column in rows[0]))
    decoded = [{column: decode(value, kinds[column]) for column, value in row.items()} for row in rows]
    return sa.insert(table), decoded


def _kind(column: sa.types.TypeEngine[Any] | None) -> type:
    """What JSON does not have and a column of this type wants; `object` for all else."""
    plain = column.impl_instance if isinstance(column, sa.types.TypeDecorator) else column
    if isinstance(plain, sa.Uuid):
        return UUID
    if isinstance(plain, sa.LargeBinary):
        return bytes
    return datetime if isinstance(plain, sa.DateTime) else object
