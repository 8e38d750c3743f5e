"""Files between storage and database, so that no crash leaves a file that no row names, or a row without its file.

A file is announced before it is stored, and the announcement goes away in the transaction that records it; where it
stays, its owner died in between. A file that is deleted is announced in the transaction that deletes its row.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.db import DATABASE_ERRORS, Sessions
from api.errors import StorageError
from api.lease import NOBODY, owner_is_dead
from api.models import (
    DatasetImage,
    DatasetThumbnail,
    DatasetVersionImage,
    GeneratedAsset,
    InputImage,
    Model,
    Thumbnail,
    TrainingCandidate,
    TrainingLog,
    UnrecordedFile,
)
from api.models.base import utcnow
from api.see_through import see_through
from api.storage import Storage

log = structlog.get_logger(__name__)

ABANDONED = timedelta(hours=24)
"""Nobody stores one file for so long: its owner died on another host, such as a container that is no more."""
NAMING: tuple[Any, ...] = (
    Model,
    TrainingCandidate,
    GeneratedAsset,
    InputImage,
    Thumbnail,
    DatasetThumbnail,
    TrainingLog,
)
"""The tables whose `storage_path` names a file; one that was promoted is named by two rows."""
KEYED: tuple[Any, ...] = (DatasetImage, DatasetVersionImage)
"""The tables whose `key` does; of one picture in several versions there are several rows."""


@asynccontextmanager
async def unrecorded(sessions: Sessions, storage: Storage, key: str, owner: str) -> AsyncIterator[None]:
    """Inside, the caller stores a file under `key`, which is his alone, and records it with `recorded`.

    When he fails or is stopped instead, the storage has nothing under `key` afterwards, or at least soon.
    """
    async with all_unrecorded(sessions, storage, [key], owner):
        yield


@asynccontextmanager
async def all_unrecorded(sessions: Sessions, storage: Storage, keys: Sequence[str], owner: str) -> AsyncIterator[None]:
    """The same for several files at once."""
    async with sessions.begin() as session:
        session.add_all(UnrecordedFile(key=key, owner=owner) for key in keys)
    try:
        yield
    except DATABASE_ERRORS:
        raise  # whether it was recorded nobody can say now; once the owner is gone, the rows can
    except Exception:
        await see_through(_discard_now(sessions, storage, keys))
        raise
    except BaseException:
        await see_through(_hand_over(sessions, storage, keys))
        raise


async def recorded(session: AsyncSession, *keys: str) -> None:
    """In the transaction that writes `keys` on the rows they are for."""
    await session.execute(sa.delete(UnrecordedFile).where(col(UnrecordedFile.key).in_(keys)))


def dismiss(session: AsyncSession, key: str) -> None:
    """In the transaction that deletes the row which names `key`: `discard_abandoned` then removes the file.

    So no crash leaves a row without its file, and a storage that is away does not keep anybody from deleting.
    """
    session.add(UnrecordedFile(key=key, owner=NOBODY))


async def discard_abandoned(sessions: Sessions, storage: Storage) -> int:
    """Remove the files that were dismissed, or whose owners died before they recorded them; how many there were."""
    async with sessions() as session:
        rows = (await session.scalars(sa.select(UnrecordedFile))).all()
    abandoned = [row.key for row in rows if owner_is_dead(row.owner) or row.created_at < utcnow() - ABANDONED]
    try:
        for key in abandoned:
            await _discard(sessions, storage, key)
    except StorageError as exc:
        log.warning("files_not_discarded", error=str(exc))  # next time, then
    return len(abandoned)


async def _discard_now(sessions: Sessions, storage: Storage, keys: Sequence[str]) -> None:
    try:
        for key in keys:
            await _discard(sessions, storage, key)
    except (StorageError, *DATABASE_ERRORS) as exc:
        log.warning("file_not_discarded", key=key, error=str(exc))  # `discard_abandoned` will, one day


async def _hand_over(sessions: Sessions, storage: Storage, keys: Sequence[str]) -> None:
    """Remove the files of one who was stopped, and have it done again: a request on its way may still store one.

    His last transaction may be on its way, too. It holds the announcements that it deletes, so this waits for its end,
    and finds only those that were not recorded.
    """
    mine = sa.update(UnrecordedFile).where(col(UnrecordedFile.key).in_(keys))
    try:
        async with sessions.begin() as session:
            left = (await session.scalars(mine.values(owner=NOBODY).returning(col(UnrecordedFile.key)))).all()
        for key in left:
            await storage.delete(key)
    except (StorageError, *DATABASE_ERRORS) as exc:
        log.warning("files_not_discarded", error=str(exc))  # `discard_abandoned` will


async def _discard(sessions: Sessions, storage: Storage, key: str) -> None:
    """The file first: a crash in between leaves the announcement, and that is done again."""
    async with sessions() as session:
        named = await _is_named(session, key)
    if not named:
        await storage.delete(key)
    async with sessions.begin() as session:
        await recorded(session, key)


async def _is_named(session: AsyncSession, key: str) -> bool:
    paths = [col(table.storage_path) for table in NAMING] + [col(table.key) for table in KEYED]
    return bool(await session.scalar(sa.select(sa.or_(*(sa.exists().where(path == key) for path in paths)))))
