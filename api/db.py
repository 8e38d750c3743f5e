"""The database: one engine for SQLite and PostgreSQL, and migrations at start."""

import importlib
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from filelock import AsyncFileLock
from sqlalchemy import Connection, event, inspect, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlmodel import SQLModel

from api.errors import ConfigError, UnreachableError
from api.settings import Settings

MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x4D41535543  # "MASUC": PostgreSQL's advisory locks are numbers
ADDED_AT_ONCE = 100
SQLITE_BUSY_SECONDS = 10.0
POSTGRES_CONNECT_SECONDS = 10.0
POSTGRES_ANSWER_SECONDS = 60.0
"""A connection that says nothing for so long is given up: its other end may be gone without a word."""

Sessions = async_sessionmaker[AsyncSession]
DATABASE_ERRORS = (SQLAlchemyError, OSError)
"""What a query raises when the database does not answer: the drivers let refused connections through as they are."""


def _sqlite_pragmas(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


class _Connection(sqlite3.Connection):
    """One whose lock ends with it.

    A task that is cancelled leaves its statement open, and SQLite closes a connection only with its last statement:
    until the garbage collector finds that, nobody else could write.
    """

    def close(self) -> None:
        if self.in_transaction:
            self.rollback()
        super().close()


def create_engine(settings: Settings) -> AsyncEngine:
    url = settings.sqlalchemy_url
    if not url.startswith("sqlite"):
        waits = {"timeout": POSTGRES_CONNECT_SECONDS, "command_timeout": POSTGRES_ANSWER_SECONDS}
        return create_async_engine(url, pool_pre_ping=True, pool_size=5, max_overflow=15, connect_args=waits)
    engine = create_async_engine(url, connect_args={"timeout": SQLITE_BUSY_SECONDS, "factory": _Connection})
    event.listen(engine.sync_engine, "connect", _sqlite_pragmas)
    return engine


def create_sessions(engine: AsyncEngine) -> Sessions:
    return async_sessionmaker(engine, expire_on_commit=False)


async def add_many(session: AsyncSession, rows: Sequence[SQLModel]) -> None:
    """Add and flush rows, some at a time: they are prepared on the event loop, where others wait meanwhile."""
    for start in range(0, len(rows), ADDED_AT_ONCE):
        session.add_all(rows[start : start + ADDED_AT_ONCE])
        await session.flush()


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Sessions]:
    """Connect and bring the schema up to date.

    Raises ConfigError when the database cannot be reached.
    """
    settings.make_data_dir()
    engine = create_engine(settings)
    try:
        await migrate(engine, settings)
        yield create_sessions(engine)
    finally:
        await engine.dispose()


async def migrate(engine: AsyncEngine, settings: Settings) -> None:
    """Run the migrations that are missing; processes that start together take turns. Raises ConfigError."""
    with reaching(engine):
        if engine.dialect.name == "sqlite":
            async with AsyncFileLock(settings.masuka_data_dir / "migrate.lock"), engine.begin() as connection:
                await connection.run_sync(_upgrade)
        else:
            async with engine.begin() as connection:
                await connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
                await connection.run_sync(_upgrade)


@contextmanager
def reaching(engine: AsyncEngine) -> Iterator[None]:
    """What the drivers say of a database that does not answer, or does not let us in, as ConfigError."""
    try:
        yield
    except DATABASE_ERRORS as exc:
        where = engine.url.render_as_string(hide_password=True)
        if may_come(exc):
            raise UnreachableError(
                f"The database does not answer: {_reason(exc)}.",
                code="database_unreachable",
                value=where,
                hint="Start it, or check DATABASE_URL: server and port.",
            ) from exc
        raise ConfigError(
            f"The database does not let us in: {_reason(exc)}.",
            code="database_unreachable",
            value=where,
            hint="Check DATABASE_URL: server, port, user, password and database name.",
        ) from exc


def may_come(exc: BaseException) -> bool:
    """Whether the server is away, starting, ending or full, and not just unwilling.

    To SQLAlchemy most of these are just some error of asyncpg; PostgreSQL's own code tells them apart.
    """
    said = getattr(exc, "orig", None) or exc
    state = getattr(said, "sqlstate", None) or ""
    return isinstance(said, OSError) or state.startswith(("08", "53", "57P"))


def _reason(exc: BaseException) -> str:
    """The first line of what the driver itself said."""
    said = getattr(exc, "orig", None) or exc
    said = said.__cause__ or said
    return (str(said).strip() or type(said).__name__).splitlines()[0].rstrip(".")


def revisions() -> list[str]:
    """Of all schemas that this version knows, oldest first."""
    return sorted(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def _upgrade(connection: Connection) -> None:
    if not _lacks_migrations(connection):
        return
    begin_ddl(connection)
    if _lacks_migrations(connection):  # else one with another data folder, and thus another lock, was faster
        upgrade_to(connection, "head")


def begin_ddl(connection: Connection) -> None:
    """Have the changes of the schema that follow be part of the connection's transaction."""
    if connection.dialect.name == "sqlite":
        # The driver begins a transaction only before rows are written: each CREATE would be committed by itself,
        # and a schema that is interrupted in the middle could never be completed.
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def upgrade_to(connection: Connection, revision: str) -> None:
    """Up to this revision of the schema, or to `head`."""
    # Alembic takes longer to load than everything else here, and is needed once in the life of a schema.
    importlib.import_module("api.migrations.run").upgrade(connection, revision)


def _lacks_migrations(connection: Connection) -> bool:
    """Raises ConfigError for a schema that this version does not know."""
    current, known = _revision(connection), revisions()
    if current is not None and current not in known:
        raise ConfigError(
            f"The database has schema {current}, which is newer than this MASUKA (it knows {known[-1]}).",
            code="database_newer",
            value=current,
            hint="Update MASUKA, or use the database that belongs to this version.",
        )
    return current != known[-1]


def _revision(connection: Connection) -> str | None:
    """None for a new database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
