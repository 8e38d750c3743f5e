"""The database: one engine for SQLite and PostgreSQL, and migrations at start."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import alembic.command
import alembic.config
from filelock import FileLock
from sqlalchemy import Connection, event, inspect, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine

from api.errors import ConfigError
from api.settings import Settings

MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 0x4D41535543  # "MASUC": PostgreSQL's advisory locks are numbers
SQLITE_BUSY_SECONDS = 10.0

Sessions = async_sessionmaker[AsyncSession]
DATABASE_ERRORS = (SQLAlchemyError, OSError)
"""What a query raises when the database does not answer: the drivers let refused connections through as they are."""


def _sqlite_pragmas(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def create_engine(settings: Settings) -> AsyncEngine:
    url = settings.sqlalchemy_url
    if not url.startswith("sqlite"):
        return create_async_engine(url, pool_pre_ping=True, pool_size=5, max_overflow=15)
    settings.masuka_data_dir.mkdir(parents=True, exist_ok=True)
    engine = create_async_engine(url, connect_args={"timeout": SQLITE_BUSY_SECONDS})
    event.listen(engine.sync_engine, "connect", _sqlite_pragmas)
    return engine


def create_sessions(engine: AsyncEngine) -> Sessions:
    return async_sessionmaker(engine, expire_on_commit=False)


@asynccontextmanager
async def open_database(settings: Settings) -> AsyncIterator[Sessions]:
    """Connect and bring the schema up to date.

    Raises ConfigError when the database cannot be reached.
    """
    engine = create_engine(settings)
    try:
        await migrate(engine, settings)
        yield create_sessions(engine)
    finally:
        await engine.dispose()


async def migrate(engine: AsyncEngine, settings: Settings) -> None:
    """Run the migrations that are missing; processes that start together take turns."""
    try:
        if engine.dialect.name == "sqlite":
            lock = FileLock(settings.masuka_data_dir / "migrate.lock")
            await asyncio.to_thread(lock.acquire)
            try:
                async with engine.begin() as connection:
                    await connection.run_sync(_upgrade)
            finally:
                lock.release()
        else:
            async with engine.begin() as connection:
                await connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
                await connection.run_sync(_upgrade)
    except DATABASE_ERRORS as exc:
        raise ConfigError(
            f"The database does not let us in: {_reason(exc)}",
            code="database_unreachable",
            value=engine.url.render_as_string(hide_password=True),
            hint="Check DATABASE_URL: server, port, user, password and database name.",
        ) from exc


def _reason(exc: Exception) -> str:
    return str(getattr(exc, "orig", exc)).strip().splitlines()[0]


def alembic_config(connection: Connection | None = None) -> alembic.config.Config:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def newest_revision() -> str:
    return max(path.name for path in (MIGRATIONS / "versions").glob("[0-9]*.py")).partition("_")[0]


def _upgrade(connection: Connection) -> None:
    if inspect(connection).has_table("alembic_version"):
        current = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        if current == newest_revision():
            return
    alembic.command.upgrade(alembic_config(connection), "head")
