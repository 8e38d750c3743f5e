"""Where backups are kept: below `backups/` of the bucket that the service uses, or in a folder of its own."""

import gzip
import hashlib
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import ValidationError

from api.domain.backup import (
    INDEX_KEYS,
    Entry,
    Index,
    Manifest,
    Part,
    copy_key,
    files_key,
    line,
    manifest_key,
    newest_index,
    rows_key,
)
from api.errors import ConfigError, MasukaError
from api.settings import Settings
from api.storage import Storage, StoredFile
from api.storage.files import in_thread
from api.storage.local import open_local


class BackupError(MasukaError):
    title = "Backup not usable"
    default_code = "backup_damaged"


class Place:
    """One place, which is read back after every write."""

    def __init__(self, storage: Storage, *, is_service_storage: bool) -> None:
        """`is_service_storage`: the files that rows name are here already."""
        self.storage = storage
        self.is_service_storage = is_service_storage

    async def index(self) -> Index | None:
        """None where no backup was ever made. Raises BackupError."""
        copies = [copy for key in INDEX_KEYS if (copy := await self._read(key)) is not None]
        try:
            return newest_index(copies)
        except ValueError as exc:
            raise BackupError("The index of the backups cannot be read.", hint="Restore from another place.") from exc

    async def manifest(self, entry: Entry) -> Manifest:
        """Raises BackupError."""
        data = await self._read(manifest_key(entry.id))
        if data is None or part_of(data) != entry.manifest:
            raise _damaged(entry.id, "its manifest is gone" if data is None else "its manifest was changed")
        try:
            return Manifest.model_validate_json(data)
        except ValidationError as exc:
            raise _damaged(entry.id, "its manifest is of a kind that this version does not know") from exc

    async def fetch_rows(self, manifest: Manifest, path: Path) -> None:
        """Raises BackupError."""
        await self._fetch(manifest.id, rows_key(manifest.id), manifest.rows, path)

    async def copied_files(self, manifest: Manifest, folder: Path) -> list[StoredFile]:
        """Raises BackupError."""
        if manifest.files is None:
            return []
        path = folder / "files.jsonl.gz"
        await self._fetch(manifest.id, files_key(manifest.id), manifest.files, path)
        return await in_thread(_read_list, path)

    async def write(self, path: Path, key: str) -> Part:
        stored = await self.storage.put_file(key, path)
        return Part(size=stored.size, sha256=stored.sha256)

    async def write_list(self, snapshot: str, files: Iterable[StoredFile], folder: Path) -> Part:
        path = folder / "files.jsonl.gz"
        await in_thread(_write_list, path, files)
        return await self.write(path, files_key(snapshot))

    async def write_manifest(self, manifest: Manifest, folder: Path) -> Part:
        return await self._write_text(manifest.model_dump_json(indent=1), manifest_key(manifest.id), folder)

    async def write_index(self, index: Index, folder: Path) -> None:
        await self._write_text(index.model_dump_json(indent=1), index.key, folder)

    async def discard(self, entry: Entry, unused: Iterable[str]) -> None:
        """Remove a snapshot that the index does not name any more, and the copies that no other one needs."""
        for key in unused:
            await self.storage.delete(copy_key(key))
        for key in (files_key(entry.id), rows_key(entry.id), manifest_key(entry.id)):
            await self.storage.delete(key)

    async def _write_text(self, text: str, key: str, folder: Path) -> Part:
        path = folder / "text.json"
        await in_thread(path.write_text, text, encoding="utf-8")
        return await self.write(path, key)

    async def _read(self, key: str) -> bytes | None:
        try:
            return b"".join([chunk async for chunk in self.storage.open(key)])
        except FileNotFoundError:
            return None

    async def _fetch(self, snapshot: str, key: str, expected: Part, path: Path) -> None:
        try:
            got = await self.storage.get_file(key, path)
        except FileNotFoundError as exc:
            raise _damaged(snapshot, f"{key} is gone") from exc
        if (got.size, got.sha256) != (expected.size, expected.sha256):
            raise _damaged(snapshot, f"{key} was changed")


def is_wanted(settings: Settings) -> bool:
    """Whether backups make themselves: into a folder that is set, or beside the files in a bucket.

    In a bucket only where the database is not on a server of its own.
    """
    return settings.masuka_backup_dir is not None or bool(settings.s3_bucket_name and not settings.database_url)


def part_of(data: bytes) -> Part:
    return Part(size=len(data), sha256=hashlib.sha256(data).hexdigest())


def _damaged(snapshot: str, reason: str) -> BackupError:
    hint = "Restore an older one: `masuka restore --list` names them."
    return BackupError(f"The snapshot {snapshot} is damaged: {reason}.", value=snapshot, hint=hint)


def _write_list(path: Path, files: Iterable[StoredFile]) -> None:
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as file:
        for each in files:
            file.write(line([each.key, each.size, each.sha256]))


def _read_list(path: Path) -> list[StoredFile]:
    with gzip.open(path, "rb") as file:
        return [StoredFile(*json.loads(text)) for text in file]


@asynccontextmanager
async def open_place(settings: Settings, storage: Storage, folder: Path | None) -> AsyncIterator[Place]:
    """The folder; without one MASUKA_BACKUP_DIR, else the bucket. Raises ConfigError `backup_place_missing`."""
    folder = folder or settings.masuka_backup_dir
    if folder is not None:
        async with open_local(folder) as local:
            yield Place(local, is_service_storage=False)
    elif settings.s3_bucket_name:
        yield Place(storage, is_service_storage=True)
    else:
        raise ConfigError(
            "There is no place for backups.",
            code="backup_place_missing",
            hint="Name a folder, or set MASUKA_BACKUP_DIR or S3_BUCKET_NAME.",
        )
