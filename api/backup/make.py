"""Makes a backup: the rows, then the files that they name, then the word that says that all of it is there."""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
import structlog
from filelock import AsyncFileLock

from api import __version__
from api.backup.place import Place
from api.backup.rows import dump
from api.db import Sessions
from api.domain.backup import Entry, Index, Manifest, copy_key, rows_key, snapshot_id
from api.errors import ConflictError, StorageError
from api.models import Installation
from api.models.base import utcnow
from api.scratch import scratch
from api.settings import Settings
from api.storage import Storage, StoredFile

log = structlog.get_logger(__name__)

Tell = Callable[[str, int, int], None]
"""(what is done, how many of it are through, how many there are)"""


@dataclass(frozen=True, slots=True)
class Made:
    snapshot: str
    new: bool
    """False: nothing has changed since the newest one, which is this."""
    rows: int
    files: int
    bytes: int
    missing: tuple[str, ...]
    """Files that rows name and the storage has lost."""


async def make(
    place: Place,
    sessions: Sessions,
    storage: Storage,
    settings: Settings,
    tell: Tell = lambda *_: None,
    *,
    begin_anew: bool = False,
) -> Made:
    """One more snapshot, beside whatever else runs; the oldest one goes.

    Raises ConflictError `backup_of_another` where the place has backups of another installation, unless it is to
    `begin_anew`; BackupError, StorageError.
    """
    async with _alone(settings), scratch(settings) as folder:
        index = await own_index(place, sessions, begin_anew=begin_anew)
        tell("rows", 0, 1)
        dumped = await dump(sessions, folder / "rows.jsonl.gz")
        tell("rows", 1, 1)
        copies = _Copies(place, storage, folder, await _copied_before(place, index, folder))
        files = [] if place.is_service_storage else await copies.bring(dumped.keys, tell)
        made_at = utcnow()
        snapshot = snapshot_id(made_at, index.number + 1)
        rows = await place.write(folder / "rows.jsonl.gz", rows_key(snapshot))
        if index.snapshots and index.snapshots[0].rows_sha256 == rows.sha256 and not copies.new:
            await place.storage.delete(rows_key(snapshot))
            return Made(index.snapshots[0].id, False, dumped.tables.total(), len(files), 0, tuple(copies.missing))
        manifest = Manifest(
            id=snapshot,
            made_at=made_at,
            masuka=__version__,
            revision=await _revision(sessions),
            installation=index.installation,
            tables=dict(dumped.tables),
            rows=rows,
            files=None if place.is_service_storage else await place.write_list(snapshot, files, folder),
            file_count=len(files),
            file_bytes=sum(file.size for file in files),
        )
        part = await place.write_manifest(manifest, folder)
        newer = index.with_newest(Entry(id=snapshot, made_at=made_at, manifest=part, rows_sha256=rows.sha256))
        await place.write_index(newer, folder)
        await _discard_old(place, index, newer, folder)
    rows_in_all = dumped.tables.total()
    return Made(snapshot, True, rows_in_all, len(files), manifest.file_bytes + rows.size, tuple(copies.missing))


class _Copies:
    """Brings files to the place; what is there already is not brought again."""

    def __init__(self, place: Place, storage: Storage, folder: Path, before: dict[str, StoredFile]) -> None:
        self._place = place
        self._storage = storage
        self._folder = folder
        self._before = before
        self.new = 0
        self.missing: list[str] = []

    async def bring(self, keys: Iterable[str], tell: Tell) -> list[StoredFile]:
        wanted = list(keys)
        brought = []
        for number, key in enumerate(wanted):
            tell("files", number, len(wanted))
            size = await self._storage.size(key)
            if size is None:
                self.missing.append(key)
                continue
            known = self._before.get(key)
            if known is None or known.size != size or await self._place.storage.size(copy_key(key)) != size:
                known = await self._copy(key)
            brought.append(known)
        tell("files", len(wanted), len(wanted))
        return brought

    async def _copy(self, key: str) -> StoredFile:
        self.new += 1
        path = self._storage.local_path(key)
        fetched = self._folder / "fetched"
        if path is None:
            await self._storage.get_file(key, fetched)
        stored = await self._place.storage.put_file(copy_key(key), path or fetched)
        fetched.unlink(missing_ok=True)
        return StoredFile(key, stored.size, stored.sha256)


async def own_index(place: Place, sessions: Sessions, *, begin_anew: bool = False) -> Index:
    """The place's index, or the beginning of one. Raises ConflictError `backup_of_another`, BackupError."""
    mine = await _installation(sessions)
    found = await place.index()
    if found is None:
        return Index(number=1, installation=mine.id, snapshots=[])
    if found.installation != mine.id:
        if not begin_anew:
            raise ConflictError(
                "The backups there belong to another installation, and would be lost.",
                code="backup_of_another",
                value=str(found.installation),
                hint="Run `masuka restore` to go on with it, or `masuka backup --begin-anew` to give it up.",
            )
        return Index(number=found.number, installation=mine.id, snapshots=[])
    return found


async def _installation(sessions: Sessions) -> Installation:
    async with sessions.begin() as session:
        found = await session.get(Installation, True)
        if found is None:
            found = Installation()
            session.add(found)
    return found


async def _revision(sessions: Sessions) -> str:
    async with sessions() as session:
        return str(await session.scalar(sa.text("SELECT version_num FROM alembic_version")))


async def _copied_before(place: Place, index: Index, folder: Path) -> dict[str, StoredFile]:
    """What the newest snapshot has copied, by key."""
    if place.is_service_storage or not index.snapshots:
        return {}
    manifest = await place.manifest(index.snapshots[0])
    return {file.key: file for file in await place.copied_files(manifest, folder)}


async def _discard_old(place: Place, index: Index, newer: Index, folder: Path) -> None:
    """What the newer index does not name any more; a failure leaves files that nobody needs, and nothing worse."""
    try:
        for entry in index.dropped_by(newer):
            gone = {file.key for file in await place.copied_files(await place.manifest(entry), folder)}
            for kept in newer.snapshots:
                gone -= {file.key for file in await place.copied_files(await place.manifest(kept), folder)}
            await place.discard(entry, gone)
    except StorageError as exc:
        log.warning("old_backup_not_removed", error=exc.detail)


@asynccontextmanager
async def _alone(settings: Settings) -> AsyncIterator[None]:
    """One backup at a time: a second one waits, and then finds little to do."""
    async with AsyncFileLock(settings.masuka_data_dir / "backup.lock"):
        yield
