"""What MASUKA asks of a place that keeps files, whichever it is."""

import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote
from uuid import uuid4

from api.errors import NotFoundError, StorageError

MAX_KEY_LENGTH = 512
_SEGMENT = r"[a-z0-9_-][a-z0-9._-]{0,199}"
_KEY = re.compile(rf"{_SEGMENT}(/{_SEGMENT})*")


@dataclass(frozen=True)
class StoredFile:
    """Bytes as the storage returned them."""

    key: str
    size: int
    sha256: str


class Storage(Protocol):
    """Files under keys. Every method raises ValueError for a key that is not ours and StorageError for trouble.

    A key is written once, by whoever made it up, and is whole from the moment it can be read.
    """

    async def put_file(self, key: str, path: Path, content_type: str | None = None) -> StoredFile:
        """Store the file at `path`, then read it back from the storage: size and hash are of what came back.

        Raises StorageError `storage_verify_failed` if that is not what was sent; then nothing stays under `key`.
        An interrupted put leaves under `key` nothing or the whole file.
        """
        ...

    async def get_file(self, key: str, path: Path) -> StoredFile:
        """Fetch to `path`, which appears only when whole and on disk; raises FileNotFoundError if there is none."""
        ...

    def open(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` up to and without `end`; the first step raises FileNotFoundError if there are none."""
        ...

    async def size(self, key: str) -> int | None:
        """Bytes stored under `key`, None if there is nothing."""
        ...

    async def delete(self, key: str) -> None:
        """Remove what is under `key`, if anything."""
        ...

    async def presigned_url(self, key: str, *, expires_seconds: int, filename: str) -> str | None:
        """A link that downloads as `filename` without credentials until it expires; None where files have no links."""
        ...

    async def check(self) -> None:
        """Write, read back and delete a small file; raises StorageError with a hint if any of it fails."""
        ...

    def local_path(self, key: str) -> Path | None:
        """Where the file lies on this machine; None where it does not. Nobody may change it there."""
        ...


async def on_disk(storage: Storage, key: str, folder: Path) -> Path:
    """The file, to read and not to change: where it lies, or fetched into `folder`.

    Raises NotFoundError `file_missing` when the storage has lost it.
    """
    path = storage.local_path(key)
    try:
        if path is None:
            path = folder / "fetched"
            await storage.get_file(key, path)
        elif await storage.size(key) is None:
            raise FileNotFoundError(key)
    except FileNotFoundError as exc:
        raise NotFoundError("The file is gone from the storage.", code="file_missing", value=key) from exc
    return path


def require_key(key: str) -> str:
    """`key` if it is one of ours: lower-case segments none of which starts with a dot; else ValueError."""
    if len(key) > MAX_KEY_LENGTH or not _KEY.fullmatch(key):
        raise ValueError(f"not a storage key: {key[:80]!r}")
    return key


def require_same(sent: StoredFile, stored: StoredFile) -> None:
    """Raise StorageError unless the storage returned exactly what it was given."""
    if sent != stored:
        raise StorageError(
            f"{sent.key} does not read back as written: sent {sent.size} bytes with SHA-256 {sent.sha256[:12]}, "
            f"got {stored.size} bytes with {stored.sha256[:12]}.",
            code="storage_verify_failed",
            value=sent.key,
            hint="The copy was removed; try again. If it happens again, check the disk or the network.",
        )


async def round_trip(storage: Storage) -> None:
    """Put, read back and delete one small file: this one."""
    key = f"checks/{uuid4().hex}"
    await storage.put_file(key, Path(__file__))
    await storage.delete(key)


def content_disposition(filename: str) -> str:
    """A header value that downloads as `filename` in any script (RFC 6266), whatever characters it holds."""
    name = "".join("_" if c in '/\\"' or not c.isprintable() else c for c in filename)
    fallback = name.encode("ascii", "replace").decode().replace("?", "_").replace("%", "_")
    return f"attachment; filename=\"{fallback}\"; filename*=UTF-8''{quote(name, safe='')}"
