"""Files on this machine, read and written in pieces by threads, so that the event loop never waits for a disk."""

import asyncio
import errno
import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager
from io import BufferedWriter, FileIO
from pathlib import Path
from typing import ParamSpec, TypeVar

from api.errors import StorageError
from api.lease import new_owner
from api.see_through import see_through
from api.storage.base import StoredFile

CHUNK_BYTES = 1 << 20
PART_SUFFIX = ".part"

P = ParamSpec("P")
T = TypeVar("T")


class Tally:
    """Counts and hashes bytes as they pass."""

    def __init__(self) -> None:
        self._size = 0
        self._sha256 = hashlib.sha256()

    def add(self, chunk: bytes) -> None:
        self._size += len(chunk)
        self._sha256.update(chunk)

    def of(self, key: str) -> StoredFile:
        return StoredFile(key, self._size, self._sha256.hexdigest())


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking function in a thread; a cancellation waits until the thread has let go of its file."""
    return await see_through(asyncio.to_thread(function, *args, **kwargs))


async def read_chunks(path: Path, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
    """The bytes of a file from `start` up to and without `end`."""
    with ExitStack() as stack, disk_errors(path):
        file = await in_thread(lambda: stack.enter_context(FileIO(path)))
        file.seek(start)
        while chunk := await in_thread(_read_next, file, end):
            yield chunk


def _read_next(file: FileIO, end: int | None) -> bytes:
    wanted = CHUNK_BYTES if end is None else min(CHUNK_BYTES, end - file.tell())
    return file.read(wanted) if wanted > 0 else b""


async def read_range(path: Path, start: int, end: int) -> bytes:
    """The bytes of a file from `start` up to and without `end`, at once."""

    def read() -> bytes:
        with path.open("rb") as file:
            file.seek(start)
            return file.read(end - start)

    with disk_errors(path):
        return await in_thread(read)


async def tally(key: str, chunks: AsyncGenerator[bytes, None]) -> StoredFile:
    """Size and hash of `chunks`, as what is under `key`."""
    seen = Tally()
    async with aclosing(chunks):
        async for chunk in chunks:
            await in_thread(seen.add, chunk)
    return seen.of(key)


async def save(key: str, chunks: AsyncGenerator[bytes, None], path: Path) -> StoredFile:
    """Write `chunks` to `path`, which appears only when all of them are on disk."""
    async with part_in(path.parent) as part:
        saved = await write_part(key, chunks, part)
        await publish(part, path)
    return saved


@asynccontextmanager
async def part_in(folder: Path) -> AsyncIterator[Path]:
    """A name for a file that is not whole yet, in `folder` (made if need be); gone afterwards unless renamed."""
    part = folder / f".{new_owner()}{PART_SUFFIX}"
    with disk_errors(folder):
        await in_thread(folder.mkdir, parents=True, exist_ok=True)
        try:
            yield part
        finally:
            await in_thread(part.unlink, missing_ok=True)


async def write_part(key: str, chunks: AsyncGenerator[bytes, None], part: Path) -> StoredFile:
    """Write `chunks` to the new file `part` and flush it to disk."""
    written = Tally()
    with disk_errors(part.parent), ExitStack() as stack:
        file = await in_thread(lambda: stack.enter_context(part.open("xb")))
        async with aclosing(chunks):
            async for chunk in chunks:
                await in_thread(_append, file, written, chunk)
        await in_thread(_flush, file)
    return written.of(key)


def _append(file: BufferedWriter, written: Tally, chunk: bytes) -> None:
    file.write(chunk)
    written.add(chunk)


def _flush(file: BufferedWriter) -> None:
    file.flush()
    os.fsync(file.fileno())


async def publish(part: Path, path: Path) -> None:
    """Give a whole file its name; after this it survives a power cut."""

    def rename() -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    with disk_errors(path.parent):
        await in_thread(rename)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system says about a file into a StorageError; FileNotFoundError passes as it is."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as exc:
        raise _disk_error(exc, path) from exc


def _disk_error(exc: OSError, path: Path) -> StorageError:
    reason = os.strerror(exc.errno) if exc.errno else str(exc)
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        code, hint = "disk_full", "Free space there, or set MASUKA_DATA_DIR to a folder on a larger disk."
    elif exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        code, hint = "storage_denied", "Let the user that runs MASUKA read and write there, or set MASUKA_DATA_DIR."
    else:
        code, hint = "storage_failed", "Check the disk; the system's log may say more."
    return StorageError(f"{path}: {reason}.", code=code, value=str(path), hint=hint)
