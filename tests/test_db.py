"""SQLite as it is used here: many readers beside a writer, and writers that wait for each other."""

import asyncio
import random
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from api import db
from api.db import Sessions, open_database
from api.models import DatasetImage, Job
from api.settings import Settings
from tests.job_rows import add, read


@pytest.fixture
async def sessions(settings: Settings) -> AsyncIterator[Sessions]:
    async with open_database(settings) as opened:
        yield opened


async def test_the_data_folder_is_made_and_holds_the_database(settings: Settings, sessions: Sessions) -> None:
    assert (settings.masuka_data_dir / "masuka.db").exists()


async def test_every_connection_writes_ahead_and_checks_foreign_keys(sessions: Sessions) -> None:
    async with sessions() as one, sessions() as other:
        for session in (one, other):
            assert await session.scalar(sa.text("PRAGMA journal_mode")) == "wal"
            assert await session.scalar(sa.text("PRAGMA foreign_keys")) == 1


async def test_a_row_that_points_nowhere_is_refused(sessions: Sessions) -> None:
    nowhere = DatasetImage(
        dataset_id=uuid4(), position=0, filename="a", key="a", sha256="a", size_bytes=1, width=1, height=1
    )

    with pytest.raises(IntegrityError, match="FOREIGN KEY"):
        async with sessions.begin() as session:
            session.add(nowhere)


async def test_a_reader_sees_the_last_commit_while_another_writes(sessions: Sessions) -> None:
    job_id = await add(sessions)
    async with sessions.begin() as writer:
        await writer.execute(sa.update(Job).values(priority=5))

        assert (await read(sessions, job_id)).priority == 0

    assert (await read(sessions, job_id)).priority == 5


async def test_writers_at_once_wait_for_each_other_and_lose_nothing(sessions: Sessions) -> None:
    job_id = await add(sessions)

    async def add_one() -> None:
        async with sessions.begin() as session:
            await session.execute(sa.update(Job).where(col(Job.id) == job_id).values(priority=col(Job.priority) + 1))

    await asyncio.gather(*(add_one() for _ in range(50)))

    assert (await read(sessions, job_id)).priority == 50


async def test_a_write_that_is_cancelled_locks_nobody_out(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(db, "SQLITE_BUSY_SECONDS", 3.0)
    chance = random.Random(1)

    async def write(sessions: Sessions) -> None:
        async with sessions.begin() as session:
            await session.execute(sa.update(Job).values(priority=col(Job.priority) + 1).returning(Job))

    async with open_database(settings) as sessions:
        await add(sessions)
        for _ in range(40):
            cancelled = asyncio.create_task(write(sessions))
            await asyncio.sleep(chance.uniform(0, 0.01))
            cancelled.cancel()
            await asyncio.wait({cancelled})
            await write(sessions)
