"""Input pictures stay as long as somebody may want them."""

import asyncio
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlmodel import col

from api.db import Sessions
from api.domain.upload import UploadLimits
from api.models import GeneratedAsset, InputImage, Job
from api.models.base import utcnow
from api.services import inputs
from api.services.unrecorded import discard_abandoned
from api.settings import Settings
from api.storage import Storage, open_storage
from tests.job_rows import add
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


async def test_nothing_goes_that_a_waiting_job_may_have_asked_for(
    sessions: Sessions, settings: Settings, tmp_path: Path
) -> None:
    async with open_storage(settings) as storage:
        older, newer = [await keep(sessions, storage, settings, tmp_path, seed) for seed in (1, 2)]
        job_id = await add(sessions, seconds_ago=(DAYS + 5) * 24 * 3600)
        await age(sessions, older, DAYS + 9)
        await age(sessions, newer, DAYS + 3)
        assert await sweep(sessions, storage) == 1
        assert await left(sessions) == {newer}
        async with sessions.begin() as session:
            job = await session.get(Job, job_id)
            assert job is not None
            job.status = "completed"
        assert await sweep(sessions, storage) == 1


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
