"""What every storage promises, asked of the local disk and of a real S3 server."""

import asyncio
import errno
import hashlib
import os
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest

from api.errors import StorageError
from api.settings import Settings
from api.storage import Storage, StoredFile

MANY_PARTS = 30 << 20


@pytest.fixture
def key() -> str:
    """A key no other test uses: the bucket is shared."""
    return f"tests/{uuid4().hex}/file.bin"


def write(path: Path, size: int) -> bytes:
    content = Random(size).randbytes(size)
    path.write_bytes(content)
    return content


async def read(storage: Storage, key: str, start: int = 0, end: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in storage.open(key, start, end)])


async def test_what_is_put_comes_back_the_same(storage: Storage, key: str, tmp_path: Path) -> None:
    content = write(tmp_path / "in", 100_000)
    expected = StoredFile(key, len(content), hashlib.sha256(content).hexdigest())

    assert await storage.put_file(key, tmp_path / "in", "image/png") == expected
    assert await storage.size(key) == len(content)
    assert await read(storage, key) == content
    assert await storage.get_file(key, tmp_path / "new" / "folder" / "out") == expected
    assert (tmp_path / "new" / "folder" / "out").read_bytes() == content


async def test_a_file_of_many_parts_comes_back_the_same(storage: Storage, key: str, tmp_path: Path) -> None:
    content = write(tmp_path / "in", MANY_PARTS + 12_345)
    stored = await storage.put_file(key, tmp_path / "in")

    assert stored.sha256 == hashlib.sha256(content).hexdigest()
    assert await storage.get_file(key, tmp_path / "out") == stored
    assert (tmp_path / "out").read_bytes() == content


async def test_an_empty_file_is_a_file(storage: Storage, key: str, tmp_path: Path) -> None:
    write(tmp_path / "in", 0)
    await storage.put_file(key, tmp_path / "in")

    assert await storage.size(key) == 0
    assert await read(storage, key) == b""
    assert (await storage.get_file(key, tmp_path / "out")).size == 0


async def test_a_range_is_sliced_as_python_slices(storage: Storage, key: str, tmp_path: Path) -> None:
    content = write(tmp_path / "in", 1000)
    await storage.put_file(key, tmp_path / "in")

    for start, end in [(0, None), (0, 1), (5, 10), (999, None), (1000, None), (2000, 3000), (990, 5000), (7, 7)]:
        assert await read(storage, key, start, end) == content[start:end], (start, end)


async def test_nothing_is_found_under_a_key_never_written(storage: Storage, key: str, tmp_path: Path) -> None:
    assert await storage.size(key) is None
    with pytest.raises(FileNotFoundError):
        await read(storage, key)
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "file").write_bytes(b"older")
    with pytest.raises(FileNotFoundError):
        await storage.get_file(key, folder / "file")
    assert os.listdir(folder) == ["file"]
    assert (folder / "file").read_bytes() == b"older"


async def test_deleting_twice_is_deleting_once(storage: Storage, key: str, tmp_path: Path) -> None:
    write(tmp_path / "in", 10)
    await storage.put_file(key, tmp_path / "in")

    await storage.delete(key)
    assert await storage.size(key) is None
    await storage.delete(key)


async def test_the_file_that_was_stored_may_change_afterwards(storage: Storage, key: str, tmp_path: Path) -> None:
    content = write(tmp_path / "in", 1000)
    await storage.put_file(key, tmp_path / "in")

    with (tmp_path / "in").open("r+b") as file:
        file.write(b"changed in place")
    assert await read(storage, key) == content


async def test_putting_a_file_that_is_not_there_stores_nothing(storage: Storage, key: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await storage.put_file(key, tmp_path / "none")
    assert await storage.size(key) is None


async def test_many_files_at_once_do_not_mix(storage: Storage, key: str, tmp_path: Path) -> None:
    contents = [write(tmp_path / f"in{n}", 200_000 + n) for n in range(20)]
    await asyncio.gather(*[storage.put_file(f"{key}-{n}", tmp_path / f"in{n}") for n in range(20)])

    assert await asyncio.gather(*[read(storage, f"{key}-{n}") for n in range(20)]) == contents


async def test_writers_of_one_key_leave_one_whole_file(storage: Storage, key: str, tmp_path: Path) -> None:
    content = write(tmp_path / "in", 500_000)
    await asyncio.gather(*[storage.put_file(key, tmp_path / "in") for _ in range(6)])

    assert await read(storage, key) == content


@pytest.mark.parametrize("turns", [0, 1, 3, 10, 30, 100])
async def test_a_put_cancelled_at_any_moment_leaves_nothing_broken(
    storage: Storage, storage_settings: Settings, key: str, tmp_path: Path, turns: int
) -> None:
    content = write(tmp_path / "in", MANY_PARTS)
    put = asyncio.create_task(storage.put_file(key, tmp_path / "in"))
    for _ in range(turns):
        await asyncio.sleep(0)
    put.cancel()
    with pytest.raises(asyncio.CancelledError):
        await put

    if await storage.size(key) is not None:
        assert await read(storage, key) == content
    assert not list(storage_settings.masuka_data_dir.rglob("*.part"))


async def test_a_full_disk_while_fetching_is_said_and_leaves_no_part(
    storage: Storage, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in", 10_000)
    await storage.put_file(key, tmp_path / "in")
    folder = tmp_path / "out"

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError) as raised:
        await storage.get_file(key, folder / "file")
    assert raised.value.code == "disk_full"
    assert os.listdir(folder) == []


async def test_a_check_writes_and_leaves_nothing(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    put_file = storage.put_file

    async def noted(key: str, path: Path, content_type: str | None = None) -> StoredFile:
        written.append(key)
        return await put_file(key, path, content_type)

    monkeypatch.setattr(storage, "put_file", noted)
    await storage.check()
    assert [await storage.size(key) for key in written] == [None]


NOT_KEYS = [
    "",
    "/etc/passwd",
    "a/../b",
    "..",
    ".hidden",
    "a/.b",
    "a//b",
    "a/",
    "A",
    "ü",
    "a b",
    "a\n",
    "a\0",
    "a" * 513,
]


async def test_a_key_that_is_not_ours_is_refused_by_every_method(storage: Storage, tmp_path: Path) -> None:
    write(tmp_path / "in", 1)
    for key in NOT_KEYS:
        for call in (
            storage.put_file(key, tmp_path / "in"),
            storage.get_file(key, tmp_path / "out"),
            read(storage, key),
            storage.size(key),
            storage.delete(key),
            storage.presigned_url(key, expires_seconds=60, filename="x"),
        ):
            with pytest.raises(ValueError, match="not a storage key"):
                await call
        with pytest.raises(ValueError, match="not a storage key"):
            storage.local_path(key)
