"""Training checkpoints in storage: a row for every file at every moment, and only the lease's holder writes one."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlmodel import col, select

from api.db import Sessions
from api.domain.job import Kind
from api.models import TrainingCheckpoint, TrainingSession
from api.services import checkpoints
from api.services.jobs import Lease, LeaseLostError
from api.settings import Settings
from api.storage import Storage, StoredFile, open_storage
from tests.job_rows import expire, let_lease_run_out, open_sessions, started


@dataclass
class Held:
    """A running training, and the files that its trainer has saved."""

    sessions: Sessions
    storage: Storage
    lease: Lease
    session: TrainingSession
    files: list[Path]

    async def store(self, storage: Storage | None = None) -> TrainingCheckpoint | None:
        return await checkpoints.store(
            self.sessions, storage or self.storage, self.lease, self.session.id, 250, self.files
        )

    async def rows(self) -> list[TrainingCheckpoint]:
        async with self.sessions() as session:
            return await checkpoints.of_session(session, self.session.id)

    async def stored_steps(self) -> list[int]:
        async with self.sessions() as session:
            return [row.step for row in await checkpoints.stored(session, self.session.id)]


@pytest.fixture
async def held(settings: Settings, database_url: str, tmp_path: Path) -> AsyncIterator[Held]:
    files = [tmp_path / name for name in (".guard", "README", "optimizer.bin")]
    for path in files:
        path.write_text(path.name)
    async with open_sessions(settings, database_url) as sessions, open_storage(settings) as storage:
        lease = await started(sessions, kind=Kind.TRAINING)
        async with sessions() as session:
            found = select(TrainingSession).where(col(TrainingSession.task_id) == lease.job_id)
            row = (await session.execute(found)).scalar_one()
        yield Held(sessions, storage, lease, row, files)


class Interrupting:
    """Does something before the second file is stored."""

    def __init__(self, held: Held, error: Exception | None = None) -> None:
        self._held, self._error = held, error
        self.keys: list[str] = []

    async def put_file(self, key: str, path: Path) -> StoredFile:
        self.keys.append(key)
        if len(self.keys) == 2:
            assert [row.stored_at for row in await self._held.rows()] == [None]
            await self.interrupt()
        return await self._held.storage.put_file(key, path)

    async def interrupt(self) -> None:
        if self._error is not None:
            raise self._error
        (row,) = await self._held.rows()
        await checkpoints.discard(self._held.sessions, self._held.storage, row)

    async def delete(self, key: str) -> None:
        await self._held.storage.delete(key)


async def test_every_file_is_stored_under_a_key_of_its_own_and_read_back(held: Held, tmp_path: Path) -> None:
    row = await held.store()

    assert row is not None
    assert row.size_bytes == sum(path.stat().st_size for path in held.files)
    for file, path in zip(row.files, held.files, strict=True):
        got = await held.storage.get_file(file["key"], tmp_path / "got")
        assert (file["name"], file["size"], file["sha256"]) == (path.name, got.size, got.sha256)
        assert (tmp_path / "got").read_bytes() == path.read_bytes()
    assert await held.stored_steps() == [250]


async def test_an_upload_that_stops_half_way_is_not_relied_upon_and_can_be_discarded(held: Held) -> None:
    with pytest.raises(FileNotFoundError):
        await held.store(Interrupting(held, FileNotFoundError()))  # type: ignore[arg-type]
    (row,) = await held.rows()
    assert [await held.storage.size(file["key"]) is not None for file in row.files] == [True, False, False]
    assert await held.stored_steps() == []

    await checkpoints.discard(held.sessions, held.storage, row)

    assert [await held.storage.size(file["key"]) for file in row.files] == [None] * 3
    assert await held.rows() == []


async def test_one_that_somebody_took_away_meanwhile_does_not_come_back(held: Held) -> None:
    storage = Interrupting(held)

    assert await held.store(storage) is None  # type: ignore[arg-type]

    assert await held.rows() == []
    assert [await held.storage.size(key) for key in storage.keys] == [None] * 3


async def test_an_attempt_that_lost_its_lease_stores_nothing(held: Held) -> None:
    await let_lease_run_out(held.sessions, held.lease.job_id)
    await expire(held.sessions, held.lease.job_id)

    with pytest.raises(LeaseLostError):
        await held.store()

    assert await held.rows() == []


async def test_a_session_whose_checkpoints_are_unmarked_has_none_to_rely_upon(held: Held) -> None:
    await held.store()

    async with held.sessions.begin() as session:
        await checkpoints.unmark(session, held.session.id)

    assert await held.stored_steps() == []
    assert len(await held.rows()) == 1
