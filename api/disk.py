"""The disk that everything MASUKA writes is on: what is free, and what of it running jobs have been promised."""

import asyncio
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class Usage(NamedTuple):
    """Bytes of a file system; `free` is what an ordinary user may still take."""

    total: int
    free: int


Reading = Callable[[Path], Usage]


def read_usage(folder: Path) -> Usage:
    found = shutil.disk_usage(folder)
    return Usage(found.total, found.free)


@dataclass(frozen=True, slots=True)
class Need:
    """What a job will have on the disk in all. What is in its folders already is part of it."""

    total: int
    folders: tuple[Path, ...] = ()

    def left(self) -> int:
        return max(0, self.total - sum(map(folder_bytes, self.folders)))


class DiskSpace:
    """One per process. `floor` bytes always stay free; no two jobs are promised the same ones."""

    def __init__(self, folder: Path, floor: int, reading: Reading = read_usage) -> None:
        self.folder = folder
        self.floor = floor
        self._reading = reading
        self._promises: dict[str, Need] = {}
        self._asking = asyncio.Lock()

    async def usage(self) -> Usage:
        return await asyncio.to_thread(self._reading, self.folder)

    async def ask(self, owner: str, need: Need) -> int:
        """Promise `owner` what it needs and answer 0; or promise nothing, and answer how many bytes are missing."""
        async with self._asking:
            missing = await self.missing(owner, need)
            if not missing:
                self.promise(owner, need)
            return missing

    async def missing(self, owner: str, need: Need) -> int:
        """How many bytes are missing for what `owner` needs beside all that others were promised."""
        promised = [other for name, other in self._promises.items() if name != owner]
        wanted = await asyncio.to_thread(lambda: sum(each.left() for each in (need, *promised)))
        return max(0, wanted + self.floor - (await self.usage()).free)

    def promise(self, owner: str, need: Need) -> None:
        """Count `need` whether or not there is space, for a job that has begun already."""
        self._promises[owner] = need

    def release(self, owner: str) -> None:
        """The job of `owner` has ended."""
        self._promises.pop(owner, None)


def folder_bytes(folder: Path) -> int:
    """Of all files below; 0 where there is no such folder. Files that vanish meanwhile do not count."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(path, name)).st_size
            except FileNotFoundError:
                continue
    return total
