"""What both databases promise: one schema, made and unmade by the same migrations, whoever comes first."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import alembic.command
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlmodel import SQLModel

import api.models  # noqa: F401 - fills the metadata
from api import db
from api.db import create_engine, migrate, open_database, revisions
from api.errors import ConfigError, UnreachableError
from api.migrations.run import configuration
from api.models import Job
from api.models.base import utcnow
from api.settings import PROJECT_ROOT, Settings
from tests.job_rows import add, read
from tests.service import with_values

OPEN = "import asyncio; from api.db import open_database; from api.settings import load_settings\n"
OPEN += (
    "async def main():\n  async with open_database(load_settings(_env_file=None)): print('open')\nasyncio.run(main())"
)


@pytest.fixture
def settings(settings: Settings, database_url: str) -> Settings:
    return with_values(settings, database_url=database_url)


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[AsyncEngine]:
    settings.make_data_dir()
    opened = create_engine(settings)
    yield opened
    await opened.dispose()


async def tables(engine: AsyncEngine) -> set[str]:
    async with engine.connect() as connection:
        return set(await connection.run_sync(lambda sync: sa.inspect(sync).get_table_names()))


def _both_have(_object: object, name: str | None, *_: object) -> bool:
    """But for indexes of words: each database has its own kind, which models cannot say."""
    return name not in ("ix_generated_asset_shown", "ix_generated_asset_words")


def differences(connection: sa.Connection) -> list[Any]:
    options = {"compare_type": True, "compare_server_default": True, "include_object": _both_have}
    context = MigrationContext.configure(connection, opts=options)
    return list(compare_metadata(context, SQLModel.metadata))


async def test_a_migrated_database_is_what_the_models_say(engine: AsyncEngine, settings: Settings) -> None:
    await migrate(engine, settings)

    assert await tables(engine) == {*SQLModel.metadata.tables, "alembic_version"}
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []


async def test_migrating_again_changes_nothing(engine: AsyncEngine, settings: Settings) -> None:
    await migrate(engine, settings)
    async with open_database(settings) as sessions:
        job_id = await add(sessions)

    await migrate(engine, settings)

    async with open_database(settings) as sessions:
        assert (await read(sessions, job_id)).status == "pending"


async def test_every_migration_can_be_undone(engine: AsyncEngine, settings: Settings) -> None:
    await migrate(engine, settings)

    async with engine.begin() as connection:
        await connection.run_sync(lambda sync: alembic.command.downgrade(configuration(sync), "base"))
    assert await tables(engine) == {"alembic_version"}

    await migrate(engine, settings)
    assert await tables(engine) == {*SQLModel.metadata.tables, "alembic_version"}


@pytest.mark.parametrize(
    "killed_before", ["CREATE TABLE job ", "INSERT INTO alembic_version", "UPDATE alembic_version"]
)
async def test_a_migration_that_was_interrupted_is_made_up_for_at_the_next_start(
    engine: AsyncEngine, settings: Settings, killed_before: str
) -> None:
    def interrupt(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if killed_before in statement:
            raise ZeroDivisionError

    sa.event.listen(engine.sync_engine, "before_cursor_execute", interrupt)
    with pytest.raises(ZeroDivisionError):
        await migrate(engine, settings)
    sa.event.remove(engine.sync_engine, "before_cursor_execute", interrupt)
    assert await tables(engine) == set()

    await migrate(engine, settings)
    assert await tables(engine) == {*SQLModel.metadata.tables, "alembic_version"}


async def test_processes_that_start_together_on_a_new_database_all_get_in(settings: Settings) -> None:
    env = {"MASUKA_DATA_DIR": str(settings.masuka_data_dir), "DATABASE_URL": settings.database_url}
    command = (sys.executable, "-c", OPEN)
    options: dict[str, Any] = {"cwd": PROJECT_ROOT, "env": env, "stdout": asyncio.subprocess.PIPE}

    starts = [await asyncio.create_subprocess_exec(*command, **options) for _ in range(4)]
    said = await asyncio.gather(*(process.communicate() for process in starts))

    assert [(process.returncode, out) for process, (out, _) in zip(starts, said, strict=True)] == [(0, b"open\n")] * 4


async def test_tasks_that_open_it_together_take_turns(settings: Settings) -> None:
    async def open_once() -> None:
        async with open_database(settings):
            return

    await asyncio.gather(*(open_once() for _ in range(4)))
    await open_once()


async def test_a_schema_from_the_future_is_refused(engine: AsyncEngine, settings: Settings) -> None:
    await migrate(engine, settings)
    async with engine.begin() as connection:
        await connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(ConfigError) as caught:
        await migrate(engine, settings)

    assert (caught.value.code, caught.value.value) == ("database_newer", "9999")
    assert revisions()[-1] in caught.value.detail


async def test_times_come_back_aware_and_documents_as_they_were(settings: Settings) -> None:
    now, document = utcnow(), {"größe": [1, 2.5, None, {"a": "☃"}]}
    async with open_database(settings) as sessions:
        job_id = await add(sessions)
        async with sessions.begin() as session:
            await session.execute(sa.update(Job).values(started_at=now, progress=document))

        job = await read(sessions, job_id)

    assert (job.started_at, job.progress) == (now, document)
    assert job.created_at.tzinfo is not None


# ---- one that does not let us in ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "database_url", ["postgresql://me:hunter2@127.0.0.1:1/x", "postgresql://me:hunter2@/x?host=/no"]
)
async def test_no_server_is_one_line_without_the_password(settings: Settings) -> None:
    await assert_refused(settings)


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
async def test_an_unknown_database_is_named(settings: Settings) -> None:
    settings = with_values(settings, database_url=settings.database_url.replace("/test_", "/no_such_"))

    assert not isinstance(await assert_refused(settings, "no_such_"), UnreachableError)


async def test_a_server_that_says_nothing_is_given_up(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "POSTGRES_CONNECT_SECONDS", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"postgresql://me:hunter2@127.0.0.1:{silent.getsockname()[1]}/x"

        caught = await assert_refused(with_values(settings, database_url=url))

    assert isinstance(caught, UnreachableError)


async def test_a_server_that_is_not_there_may_come(settings: Settings) -> None:
    url = "postgresql://me:hunter2@127.0.0.1:1/x"

    assert isinstance(await assert_refused(with_values(settings, database_url=url)), UnreachableError)


async def assert_refused(settings: Settings, *words: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        async with open_database(settings):
            pass
    said = str(caught.value)
    assert caught.value.code == "database_unreachable"
    assert "\n" not in said
    assert "us in: ." not in said
    assert all(word in said for word in ("DATABASE_URL", *words))
    assert "hunter2" not in said + str(caught.value.value)
    return caught.value
