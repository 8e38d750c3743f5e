"""Input pictures stay as long as somebody may want them."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlmodel import col

from api.db import Sessions
from api.domain.upload import UploadLimits
from api.errors import ConflictError, EngineError
from api.models import GeneratedAsset, InputImage
from api.models.base import utcnow
from api.services import gallery, inputs, jobs
from api.services.unrecorded import discard_abandoned
from api.settings import Settings
from api.storage import Storage, open_storage
from tests.job_rows import add, started
from tests.service import png

DAYS = 30


async def keep(sessions: Sessions, storage: Storage, settings: Settings, folder: Path, seed: int) -> UUID:
    path = folder / f"{seed}.png"
    path.write_bytes(png(seed))
    return (await inputs.keep(sessions, storage, UploadLimits.of(settings), path, folder)).id


async def age(sessions: Sessions, input_id: UUID, days: int) -> None:
    async with sessions.begin() as session:
        await session.execute(
            sa.update(InputImage).where(col(InputImage.id) == input_id).values(used_at=utcnow() - timedelta(days=days))
        )


async def left(sessions: Sessions) -> set[UUID]:
    async with sessions() as session:
        return set(await session.scalars(sa.select(col(InputImage.id))))


async def sweep(sessions: Sessions, storage: Storage) -> int:
    async with sessions.begin() as session:
        swept = await inputs.sweep(session, DAYS)
    await discard_abandoned(sessions, storage)
    return swept


async def start_from(sessions: Sessions, storage: Storage, job_id: UUID, input_id: UUID) -> None:
    """Make the picture of this job one that starts from that one."""
    async with sessions.begin() as session:
        found, _ = await inputs.find_all(session, storage, {"image": str(input_id)})
        mine = sa.update(GeneratedAsset).where(col(GeneratedAsset.task_id) == job_id)
        await session.execute(mine.values(generation_config={"inputs": found}))


async def delete(sessions: Sessions, asset_id: UUID) -> None:
    async with sessions.begin() as session:
        await gallery.delete(session, asset_id)


def said(sessions: Sessions, verb: str) -> asyncio.Event:
    """Set when the next statement with this verb is on its way to the database."""
    heard = asyncio.Event()

    @sa.event.listens_for(sessions.kw["bind"].sync_engine, "before_cursor_execute")
    def listen(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(verb):
            heard.set()

    return heard


class SlowStorage:
    """Answers the last of so many questions only when it is told to."""

    def __init__(self, storage: Storage, *, asks: int) -> None:
        self._storage, self._left = storage, asks
        self.asked, self.answer = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    async def size(self, key: str) -> int | None:
        self._left -= 1
        if self._left == 0:
            self.asked.set()
            await self.answer.wait()
        return await self._storage.size(key)


async def test_an_unused_picture_goes_with_its_file_and_the_others_stay(
    sessions: Sessions, settings: Settings, tmp_path: Path
) -> None:
    async with open_storage(settings) as storage:
        old, new = [await keep(sessions, storage, settings, tmp_path, seed) for seed in (1, 2)]
        await age(sessions, old, DAYS + 1)
        await age(sessions, new, DAYS - 1)
        assert await sweep(sessions, storage) == 1
        assert await left(sessions) == {new}
        async with sessions() as session:
            found, faults = await inputs.find_all(session, storage, {"a": str(old), "b": str(new)})
        assert (set(found), [fault.code for fault in faults]) == ({"b"}, ["input_not_found"])
        files = settings.masuka_data_dir / "storage" / "inputs"
        assert len([path for path in files.rglob("*") if path.is_file()]) == 1


async def test_a_picture_that_is_asked_for_is_in_use_again(
    sessions: Sessions, settings: Settings, tmp_path: Path
) -> None:
    async with open_storage(settings) as storage:
        old = await keep(sessions, storage, settings, tmp_path, 1)
        await age(sessions, old, DAYS + 1)
        async with sessions.begin() as session:
            await inputs.find_all(session, storage, {"image": str(old)})
        assert await sweep(sessions, storage) == 0
        await age(sessions, old, DAYS + 1)
        assert await keep(sessions, storage, settings, tmp_path, 1) == old
        assert await sweep(sessions, storage) == 0


async def test_nothing_goes_that_a_waiting_job_starts_from(
    sessions: Sessions, settings: Settings, tmp_path: Path
) -> None:
    async with open_storage(settings) as storage:
        wanted, other = [await keep(sessions, storage, settings, tmp_path, seed) for seed in (1, 2)]
        lease = await started(sessions)
        await start_from(sessions, storage, lease.job_id, wanted)
        for input_id in (wanted, other):
            await age(sessions, input_id, DAYS + 1)
        assert await sweep(sessions, storage) == 1
        async with sessions.begin() as session:
            await jobs.fail(session, lease, EngineError("It failed."))
            retried = await jobs.retry(session, lease.job_id)
        assert (await sweep(sessions, storage), await left(sessions)) == (0, {wanted})
        async with sessions.begin() as session:
            await jobs.request_cancel(session, retried.id)
        assert (await sweep(sessions, storage), await left(sessions)) == (1, set())


async def test_nobody_waits_for_the_storage_to_write(sessions: Sessions, settings: Settings, tmp_path: Path) -> None:
    async with open_storage(settings) as storage:
        wanted = [await keep(sessions, storage, settings, tmp_path, seed) for seed in (1, 2)]
        slow = SlowStorage(storage, asks=2)
        async with sessions.begin() as session:
            finding = asyncio.create_task(
                inputs.find_all(session, slow, {str(n): str(each) for n, each in enumerate(wanted)})
            )
            await slow.asked.wait()
            async with asyncio.timeout(5):
                await add(sessions)
            slow.answer.set()
            found, faults = await finding
    assert (len(found), faults) == (2, [])


async def test_a_picture_that_goes_while_it_is_looked_for_is_not_found(
    sessions: Sessions, settings: Settings, tmp_path: Path
) -> None:
    async with open_storage(settings) as storage:
        wanted = await keep(sessions, storage, settings, tmp_path, 1)
        await age(sessions, wanted, DAYS + 1)
        slow = SlowStorage(storage, asks=1)
        async with sessions.begin() as session:
            finding = asyncio.create_task(inputs.find_all(session, slow, {"image": str(wanted)}))
            await slow.asked.wait()
            assert await sweep(sessions, storage) == 1
            slow.answer.set()
            found, (fault,) = await finding
    assert (found, fault.code, fault.value) == ({}, "input_not_found", str(wanted))


async def test_an_asset_that_is_being_asked_for_is_not_deleted(
    sessions: Sessions, settings: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "made.png"
    path.write_bytes(png(1))
    async with open_storage(settings) as storage:
        stored = await storage.put_file("assets/a.png", path)
        asset = GeneratedAsset(prompt="x", status="completed", storage_path=stored.key)
        asset.generation_config = {"output": {"sha256": stored.sha256}}
        async with sessions.begin() as session:
            session.add(asset)
        async with sessions.begin() as session:
            found, _ = await inputs.find_all(session, storage, {"image": str(asset.id)})
            deletes = said(sessions, "UPDATE")
            deleting = asyncio.create_task(delete(sessions, asset.id))
            await deletes.wait()
            session.add(GeneratedAsset(prompt="y", generation_config={"inputs": found}))
        with pytest.raises(ConflictError) as caught:
            await deleting
    assert caught.value.code == "asset_in_use"
    async with sessions() as session:
        assert (await session.get_one(GeneratedAsset, asset.id)).deleted_at is None


async def test_a_row_whose_file_is_gone_is_made_whole_by_the_next_upload(
    sessions: Sessions, settings: Settings, tmp_path: Path
) -> None:
    async with open_storage(settings) as storage:
        input_id = await keep(sessions, storage, settings, tmp_path, 1)
        async with sessions() as session:
            row = await session.get(InputImage, input_id)
        assert row is not None
        await storage.delete(row.storage_path)
        assert await keep(sessions, storage, settings, tmp_path, 1) == input_id
        async with sessions() as session:
            whole = await session.get(InputImage, input_id)
        assert whole is not None
        assert await storage.size(whole.storage_path) == whole.size_bytes


async def test_a_picture_that_comes_twice_at_once_is_one_row_with_its_file(
    sessions: Sessions, settings: Settings, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in "abcd"]
    for folder in folders:
        folder.mkdir()
    async with open_storage(settings) as storage:
        ids = await asyncio.gather(*(keep(sessions, storage, settings, folder, 1) for folder in folders))
        assert set(ids) == await left(sessions)
        async with sessions() as session:
            found, faults = await inputs.find_all(session, storage, {"image": str(ids[0])})
    assert (set(found), faults) == ({"image"}, [])


@pytest.mark.parametrize("status", ["pending", "failed"])
async def test_an_asset_without_a_file_is_no_input(sessions: Sessions, settings: Settings, status: str) -> None:
    async with open_storage(settings) as storage:
        async with sessions.begin() as session:
            asset = GeneratedAsset(prompt="x", status=status)
            session.add(asset)
        async with sessions() as session:
            found, (fault,) = await inputs.find_all(session, storage, {"image": str(asset.id)})
    assert found == {}
    assert f"it is {status}" in fault.message
