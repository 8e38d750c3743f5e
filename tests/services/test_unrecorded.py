"""A file is stored for a row, or not for long: whoever dies in between, and wherever."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from api.db import Sessions
from api.lease import new_owner
from api.models import GeneratedAsset, Model, UnrecordedFile
from api.services.unrecorded import ABANDONED, discard_abandoned, recorded, unrecorded
from api.settings import Settings
from api.storage import Storage, open_storage
from tests.owners import dead_owner
from tests.tasks.troubled import Troubled
from tests.waiting import until

KEY = "models/tag/me-1a2b3c4d.safetensors"


@pytest.fixture
async def storage(settings: Settings) -> AsyncIterator[Storage]:
    async with open_storage(settings) as opened:
        yield opened


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


async def announced(sessions: Sessions) -> list[str]:
    async with sessions() as session:
        return [row.key for row in await session.scalars(sa.select(UnrecordedFile))]


async def kept(storage: Storage) -> bool:
    return await storage.size(KEY) is not None


async def die_after_storing(sessions: Sessions, storage: Storage, file: Path, owner: str) -> None:
    """What a killed process leaves: its announcement and its file."""
    async with sessions.begin() as session:
        session.add(UnrecordedFile(key=KEY, owner=owner))
    await storage.put_file(KEY, file)


async def store_and_fail(sessions: Sessions, storage: Storage, file: Path, owner: str, error: Exception) -> None:
    async with unrecorded(sessions, storage, KEY, owner):
        await storage.put_file(KEY, file)
        raise error


async def test_a_recorded_file_stays(sessions: Sessions, storage: Storage, file: Path) -> None:
    async with unrecorded(sessions, storage, KEY, new_owner()):
        assert await announced(sessions) == [KEY]
        await storage.put_file(KEY, file)
        async with sessions.begin() as session:
            session.add(GeneratedAsset(prompt="me", storage_path=KEY))
            await recorded(session, KEY)

    assert await kept(storage)
    assert await announced(sessions) == []


async def test_a_file_whose_recording_fails_goes_at_once(sessions: Sessions, storage: Storage, file: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        await store_and_fail(sessions, storage, file, new_owner(), ZeroDivisionError())

    assert not await kept(storage)
    assert await announced(sessions) == []


@pytest.mark.parametrize("committed", [True, False])
async def test_when_the_database_does_not_say_whether_it_was_recorded_its_rows_do_so_later(
    sessions: Sessions, storage: Storage, file: Path, committed: bool
) -> None:
    with pytest.raises(ConnectionError):
        await store_and_fail(sessions, storage, file, dead_owner(), ConnectionError("no answer to COMMIT"))
    assert await announced(sessions) == [KEY]
    if committed:
        async with sessions.begin() as session:
            session.add(Model(name="me", base_model="flux-tiny", storage_path=KEY, file_size_mb=1.0))

    await discard_abandoned(sessions, storage)

    assert await kept(storage) is committed
    assert await announced(sessions) == []


async def test_what_one_was_storing_who_was_stopped_goes_soon(sessions: Sessions, storage: Storage, file: Path) -> None:
    troubled = Troubled(storage, hangs=True)

    async def store() -> None:
        async with unrecorded(sessions, storage, KEY, new_owner()):
            await troubled.put_file(KEY, file)

    task = asyncio.create_task(store())
    await until(lambda: troubled.puts == 1)
    task.cancel()
    await asyncio.wait({task})
    await storage.put_file(KEY, file)  # as a request that had been sent before

    assert await discard_abandoned(sessions, storage) == 1
    assert not await kept(storage)
    assert await announced(sessions) == []


async def test_a_file_is_kept_whose_owner_was_stopped_while_its_row_was_being_written(
    sessions: Sessions, storage: Storage, file: Path
) -> None:
    async with sessions() as recording:

        async def store() -> None:
            async with unrecorded(sessions, storage, KEY, new_owner()):
                await storage.put_file(KEY, file)
                recording.add(GeneratedAsset(prompt="me", storage_path=KEY))
                await recorded(recording, KEY)
                await recording.flush()
                raise asyncio.CancelledError

        task = asyncio.create_task(store())
        waiting = not (await asyncio.wait({task}, timeout=0.5))[0]
        await recording.commit()  # it was on its way
        await asyncio.wait({task})

    await discard_abandoned(sessions, storage)
    assert waiting
    assert await kept(storage)
    assert await announced(sessions) == []


async def test_what_a_dead_process_has_stored_and_not_recorded_goes(
    sessions: Sessions, storage: Storage, file: Path
) -> None:
    await die_after_storing(sessions, storage, file, dead_owner())

    assert await discard_abandoned(sessions, storage) == 1

    assert not await kept(storage)
    assert await discard_abandoned(sessions, storage) == 0


@pytest.mark.parametrize("owner", [new_owner, lambda: "another host|1|1|x"], ids=["lives", "another host"])
async def test_what_a_process_that_may_live_is_storing_stays_for_a_day(
    sessions: Sessions, storage: Storage, file: Path, owner: Callable[[], str]
) -> None:
    await die_after_storing(sessions, storage, file, owner())
    assert await discard_abandoned(sessions, storage) == 0
    assert await kept(storage)

    async with sessions.begin() as session:
        row = await session.get_one(UnrecordedFile, KEY)
        row.created_at -= ABANDONED

    assert await discard_abandoned(sessions, storage) == 1
    assert not await kept(storage)


async def test_what_cannot_be_removed_now_is_removed_later(sessions: Sessions, storage: Storage, file: Path) -> None:
    await die_after_storing(sessions, storage, file, dead_owner())
    troubled = Troubled(storage, deletes_fail=True)

    await discard_abandoned(sessions, troubled)  # type: ignore[arg-type]
    assert await announced(sessions) == [KEY]

    troubled.deletes_fail = False
    await discard_abandoned(sessions, troubled)  # type: ignore[arg-type]
    assert not await kept(storage)
    assert await announced(sessions) == []
