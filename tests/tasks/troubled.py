"""The real storage with troubles that the real one does not have on request."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from api.errors import StorageError
from api.storage import Storage, StoredFile


@dataclass
class Troubled:
    """The real storage, whose next puts fail, or wait; or which says nothing more once it has the file."""

    real: Storage
    failures: int = 0
    code: str = "storage_unreachable"
    hangs: bool = False
    go_on: asyncio.Event | None = None
    """Puts wait for it."""
    deletes_fail: bool = False
    puts: int = 0

    async def put_file(self, key: str, path: Path, content_type: str | None = None) -> StoredFile:
        self.puts += 1
        if self.puts <= self.failures:
            raise StorageError("The storage does not answer.", code=self.code)
        if self.go_on is not None:
            await self.go_on.wait()
        stored = await self.real.put_file(key, path, content_type)
        if self.hangs:
            await asyncio.Event().wait()
        return stored

    async def get_file(self, key: str, path: Path) -> StoredFile:
        return await self.real.get_file(key, path)

    def local_path(self, key: str) -> Path | None:
        return self.real.local_path(key)

    async def delete(self, key: str) -> None:
        if self.deletes_fail:
            raise StorageError("The storage does not answer.", code=self.code)
        await self.real.delete(key)
