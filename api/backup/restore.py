"""Brings a backup back: the files first, then all rows in one transaction, so that a half restore is none."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine

from api import db
from api.backup import rows
from api.backup.files import keys_of
from api.backup.make import Tell
from api.backup.place import BackupError, Place
from api.domain.backup import Entry, Manifest, copy_key
from api.errors import ConfigError, ConflictError, NotFoundError
from api.few_at_once import few_at_once
from api.scratch import scratch
from api.settings import Settings
from api.storage import Storage, StoredFile
from api.storage.base import require_key

LOOKS = 16
"""Files that are asked for at once."""


@dataclass(frozen=True, slots=True)
class Restored:
    manifest: Manifest
    missing: tuple[str, ...]
    """Files that rows name and that are not there: they were lost, or deleted after the backup."""


async def restore(
    place: Place, storage: Storage, settings: Settings, snapshot: str | None = None, tell: Tell = lambda *_: None
) -> Restored:
    """The newest snapshot, or the one that is named, into an empty database. Nothing else may use it meanwhile.

    Raises NotFoundError `no_backup` or `snapshot_not_found`, ConflictError `database_not_empty`, ConfigError
    `backup_newer`, BackupError, StorageError. Can be repeated after any failure.
    """
    entry = await choose(place, snapshot)
    manifest = await place.manifest(entry)
    if manifest.revision not in db.revisions():
        raise ConfigError(
            f"The backup has schema {manifest.revision}, which is newer than this MASUKA ({db.revisions()[-1]}).",
            code="backup_newer",
            value=manifest.masuka,
            hint=f"Update MASUKA to version {manifest.masuka} or newer.",
        )
    engine = db.create_engine(settings)
    try:
        await _require_empty(engine, settings)
        async with scratch(settings) as folder:
            await place.fetch_rows(manifest, folder / "rows.jsonl.gz")
            copied = await place.copied_files(manifest, folder)
            await _bring(place, storage, copied, folder, tell)
            missing = await _missing(storage, folder / "rows.jsonl.gz", tell)
            tell("rows", 0, 1)
            await _load(engine, manifest, folder / "rows.jsonl.gz")
            tell("rows", 1, 1)
    finally:
        await engine.dispose()
    return Restored(manifest, tuple(missing))


async def choose(place: Place, snapshot: str | None) -> Entry:
    index = await place.index()
    if index is None or not index.snapshots:
        raise NotFoundError("There is no backup there.", code="no_backup", hint="Name the folder that has one.")
    found = [entry for entry in index.snapshots if snapshot in (None, entry.id)]
    if not found:
        raise NotFoundError(
            "There is no snapshot with this id.",
            code="snapshot_not_found",
            value=snapshot,
            hint=f"There are {', '.join(entry.id for entry in index.snapshots)}.",
        )
    return found[0]


async def _require_empty(engine: AsyncEngine, settings: Settings) -> None:
    settings.make_data_dir()
    with db.reaching(engine):
        async with engine.connect() as connection:
            empty = await connection.run_sync(rows.is_empty)
    if not empty:
        raise ConflictError(
            "The database has something in it, which a restore would replace.",
            code="database_not_empty",
            value=engine.url.render_as_string(hide_password=True),
            hint="Set MASUKA_DATA_DIR to a new folder, or DATABASE_URL to an empty database.",
        )


async def _bring(place: Place, storage: Storage, copied: Sequence[StoredFile], folder: Path, tell: Tell) -> None:
    """Copy the files back; those that are there already, from a restore that was cut off, are not fetched again."""
    for number, file in enumerate(copied):
        tell("files", number, len(copied))
        if await storage.size(require_key(file.key)) == file.size:
            continue
        fetched = folder / "fetched"
        try:
            got = await place.storage.get_file(copy_key(file.key), fetched)
        except FileNotFoundError:
            continue  # it is counted with those that are missing
        if got.sha256 != file.sha256:
            raise BackupError(f"The backup's copy of {file.key} is damaged.", value=file.key)
        await storage.put_file(file.key, fetched)
    tell("files", len(copied), len(copied))


async def _missing(storage: Storage, path: Path, tell: Tell) -> list[str]:
    """The files that rows name and the storage does not have."""
    keys = sorted(await asyncio.to_thread(_named, path))
    missing: list[str] = []
    looked = 0

    async def look(key: str) -> None:
        nonlocal looked
        if await storage.size(key) is None:
            missing.append(key)
        looked += 1
        tell("check", looked, len(keys))

    await few_at_once(LOOKS, look, keys)
    return sorted(missing)


def _named(path: Path) -> Collection[str]:
    return {require_key(key) for table, row in rows.read(path) for key in keys_of(table, row)}


async def _load(engine: AsyncEngine, manifest: Manifest, path: Path) -> None:
    async with engine.begin() as connection:
        await connection.run_sync(partial(_load_in, manifest, path))


def _load_in(manifest: Manifest, path: Path, connection: sa.Connection) -> None:
    """In the schema that the rows had; what later versions changed is then done to them as to any other rows."""
    db.begin_ddl(connection)
    if not rows.is_empty(connection):
        raise ConflictError("The database has been written to meanwhile.", code="database_not_empty")
    rows.clear(connection)
    db.upgrade_to(connection, manifest.revision)
    loaded = rows.load(connection, path)
    if dict(loaded) != {table: count for table, count in manifest.tables.items() if count}:
        raise BackupError("The rows of the backup are not those that its manifest counts.", value=manifest.id)
    db.upgrade_to(connection, "head")
