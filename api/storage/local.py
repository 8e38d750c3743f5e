"""Files in a folder of this machine."""

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from stat import S_ISREG

from api.lease import owner_is_dead
from api.storage.base import StoredFile, require_key, require_same, round_trip
from api.storage.files import (
    PART_SUFFIX,
    disk_errors,
    in_thread,
    part_in,
    publish,
    read_chunks,
    save,
    tally,
    write_part,
)

INCOMING = ".incoming"  # no key can name it: segments do not start with a dot
ABANDONED_SECONDS = 24 * 3600


class LocalStorage:
    """Keys are paths below `root`; a file is written beside them and renamed into place."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put_file(self, key: str, path: Path, content_type: str | None = None) -> StoredFile:
        target = self.local_path(key)
        async with part_in(self._root / INCOMING) as part:
            sent = await write_part(key, read_chunks(path), part)
            stored = await tally(key, read_chunks(part))
            require_same(sent, stored)
            await publish(part, target)
        return stored

    async def get_file(self, key: str, path: Path) -> StoredFile:
        return await save(key, self.open(key), path)

    async def open(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        if await self.size(key) is None:
            raise FileNotFoundError(key)
        async with aclosing(read_chunks(self.local_path(key), start, end)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def size(self, key: str) -> int | None:
        path = self.local_path(key)
        try:
            with disk_errors(path):
                found = await in_thread(path.stat)
        except FileNotFoundError:
            return None
        return found.st_size if S_ISREG(found.st_mode) else None

    async def delete(self, key: str) -> None:
        path = self.local_path(key)
        with disk_errors(path):
            await in_thread(path.unlink, missing_ok=True)

    async def presigned_url(self, key: str, *, expires_seconds: int, filename: str) -> str | None:
        require_key(key)
        return None

    async def check(self) -> None:
        await round_trip(self)

    def local_path(self, key: str) -> Path:
        return self._root / require_key(key)


@asynccontextmanager
async def open_local(root: Path) -> AsyncIterator[LocalStorage]:
    """Storage below `root`, rid of what processes that died left half-written there."""
    with disk_errors(root):
        await in_thread(_prepare, root / INCOMING)
    yield LocalStorage(root)


def _prepare(incoming: Path) -> None:
    incoming.mkdir(parents=True, exist_ok=True)
    for part in incoming.iterdir():
        # Another process may be writing here now, and may rename its file between our two looks.
        try:
            old = part.stat().st_mtime < time.time() - ABANDONED_SECONDS
            if old or owner_is_dead(part.name.removeprefix(".").removesuffix(PART_SUFFIX)):
                part.unlink()
        except FileNotFoundError:
            continue
