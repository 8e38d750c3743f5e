"""Datasets are taken in whole or not at all, whatever breaks on the way."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlmodel import col

from api.db import Sessions
from api.domain.upload import IncomingFile
from api.errors import NotFoundError, StorageError
from api.lease import new_owner
from api.models import Dataset, DatasetImage
from api.models.base import utcnow
from api.services import datasets
from api.services.datasets import ABANDONED, OWNER, Created, DatasetForm, discard_abandoned
from api.settings import Settings
from api.storage import Storage, StoredFile, open_storage
from tests.intake.pictures import LIMITS, Upload
from tests.service import png
from tests.services.test_idempotency import dead_owner


@pytest.fixture
async def disk(settings: Settings) -> AsyncIterator[Storage]:
    async with open_storage(settings) as opened:
        yield opened


@pytest.fixture
def upload(tmp_path: Path) -> list[IncomingFile]:
    """Five pictures."""
    received = Upload(tmp_path / "upload")
    return [received.add(f"{n}.png", png(n)) for n in range(5)]


async def _create(sessions: Sessions, storage: Storage, files: list[IncomingFile], folder: Path) -> Created:
    async with sessions.begin() as session:
        form = DatasetForm(name="me")
        return await datasets.create(sessions, session, storage, LIMITS, form, files, folder / "intake")


async def _counts(sessions: Sessions) -> tuple[int, int]:
    """How many datasets and images there are, shown or not."""
    async with sessions() as session:
        found = [
            await session.scalar(sa.select(sa.func.count()).select_from(table)) for table in (Dataset, DatasetImage)
        ]
    return found[0] or 0, found[1] or 0


def _stored(settings: Settings) -> list[Path]:
    return [path for path in (settings.masuka_data_dir / "storage").rglob("*") if path.is_file()]


async def _abandon(sessions: Sessions, storage: Storage, settings: Settings, owner: str, **values: object) -> None:
    """What an upload leaves whose process ends while its files are being stored."""
    dataset_id = uuid4()
    key, source = f"datasets/{dataset_id}/00000-a.png", settings.masuka_data_dir / "a.png"
    source.write_bytes(png())
    stored = await storage.put_file(key, source)
    about = {"filename": "a.png", "width": 64, "height": 48, "size_bytes": stored.size, "sha256": stored.sha256}
    async with sessions.begin() as session:
        session.add(
            Dataset(id=dataset_id, name="me", storage_path=key, dataset_metadata={OWNER: owner}, **values)  # type: ignore[arg-type]
        )
        await session.flush()
        for position, lost in enumerate(("", ".never-stored")):
            session.add(DatasetImage(dataset_id=dataset_id, position=position, key=f"{key}{lost}", **about))  # type: ignore[arg-type]


async def test_a_dataset_is_shown_once_every_picture_is_stored(
    sessions: Sessions, disk: Storage, settings: Settings, upload: list[IncomingFile], tmp_path: Path
) -> None:
    created = await _create(sessions, disk, upload, tmp_path)
    assert await _counts(sessions) == (1, 5)
    assert len(_stored(settings)) == 5
    async with sessions() as session:
        found = await datasets.get(session, created.dataset.id)
        assert OWNER not in found.dataset_metadata
        keys = [image.key for image in await datasets.images(session, found.id)]
    assert [await disk.size(key) is not None for key in keys] == [True] * 5


async def test_a_storage_that_fails_half_way_leaves_nothing(
    sessions: Sessions, disk: Storage, settings: Settings, upload: list[IncomingFile], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    put = disk.put_file

    async def fail_at_the_fourth(key: str, path: Path, content_type: str | None = None) -> StoredFile:
        if "/00003-" in key:
            raise StorageError("The disk is full.", code="disk_full")
        return await put(key, path, content_type)

    monkeypatch.setattr(disk, "put_file", fail_at_the_fourth)
    with pytest.raises(StorageError):
        await _create(sessions, disk, upload, tmp_path)
    assert await _counts(sessions) == (0, 0)
    assert _stored(settings) == []


async def test_an_upload_that_is_cancelled_leaves_nothing(
    sessions: Sessions, disk: Storage, settings: Settings, upload: list[IncomingFile], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    put, storing = disk.put_file, asyncio.Event()

    async def hang_after_the_first(key: str, path: Path, content_type: str | None = None) -> StoredFile:
        if "/00000-" not in key:
            await asyncio.Event().wait()
        stored = await put(key, path, content_type)
        storing.set()
        return stored

    monkeypatch.setattr(disk, "put_file", hang_after_the_first)
    task = asyncio.create_task(_create(sessions, disk, upload, tmp_path))
    await storing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await _counts(sessions) == (0, 0)
    assert _stored(settings) == []


async def test_what_dead_uploads_left_is_removed_and_what_living_ones_do_is_not(
    sessions: Sessions, disk: Storage, settings: Settings
) -> None:
    settings.masuka_data_dir.mkdir(exist_ok=True)
    await _abandon(sessions, disk, settings, dead_owner())
    await _abandon(sessions, disk, settings, "a-container-that-is-gone|1|1.0|ab", created_at=utcnow() - ABANDONED)
    await _abandon(sessions, disk, settings, "elsewhere|1|1.0|ab", created_at=utcnow() - ABANDONED + timedelta(hours=1))
    await _abandon(sessions, disk, settings, new_owner())
    await _abandon(sessions, disk, settings, "", is_processed=True)
    assert await discard_abandoned(sessions, disk) == 2
    assert await _counts(sessions) == (3, 6)
    assert len(_stored(settings)) == 3
    assert await discard_abandoned(sessions, disk) == 0


async def test_a_storage_that_is_away_does_not_keep_the_service_from_starting(
    sessions: Sessions, disk: Storage, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.masuka_data_dir.mkdir(exist_ok=True)
    await _abandon(sessions, disk, settings, dead_owner())

    async def away(_: str) -> None:
        raise StorageError("No answer.")

    with monkeypatch.context() as patched:
        patched.setattr(disk, "delete", away)
        assert await discard_abandoned(sessions, disk) == 0
    assert await _counts(sessions) == (1, 2)
    assert await discard_abandoned(sessions, disk) == 1


async def test_a_deleted_dataset_is_gone_at_once_and_its_files_as_soon_as_the_storage_lets_them(
    sessions: Sessions, disk: Storage, upload: list[IncomingFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = await _create(sessions, disk, upload, tmp_path)
    delete = disk.delete

    async def fail_at_the_third(key: str) -> None:
        if "/00002-" in key:
            raise StorageError("No answer.")
        await delete(key)

    async with sessions.begin() as session:
        await datasets.delete(session, created.dataset.id)
    async with sessions() as session:
        with pytest.raises(NotFoundError):
            await datasets.get(session, created.dataset.id)
    with monkeypatch.context() as patched:
        patched.setattr(disk, "delete", fail_at_the_third)
        assert await discard_abandoned(sessions, disk) == 0
    assert await _counts(sessions) == (1, 5)
    assert await discard_abandoned(sessions, disk) == 1
    assert await _counts(sessions) == (0, 0)


async def test_a_dataset_on_its_way_in_is_not_found(sessions: Sessions, disk: Storage, settings: Settings) -> None:
    settings.masuka_data_dir.mkdir(exist_ok=True)
    await _abandon(sessions, disk, settings, new_owner())
    async with sessions() as session:
        assert (await session.scalars(sa.select(Dataset).where(datasets.VISIBLE))).all() == []
        half = await session.scalar(sa.select(col(Dataset.id)))
        assert half is not None
        with pytest.raises(NotFoundError):
            await datasets.get(session, half)
