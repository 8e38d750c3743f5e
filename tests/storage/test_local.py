"""What only a disk can do wrong."""

import errno
import os
import time
from pathlib import Path

import pytest

from api.errors import StorageError
from api.lease import new_owner
from api.settings import Settings
from api.storage import open_storage
from api.storage.local import ABANDONED_SECONDS, INCOMING
from tests.owners import dead_owner


@pytest.fixture
def root(settings: Settings) -> Path:
    return settings.masuka_data_dir / "storage"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in"
    path.write_bytes(b"x" * 5000)
    return path


def files_below(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


async def test_a_disk_that_returns_other_bytes_than_it_took_is_found_out(
    settings: Settings, root: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: os.pwrite(descriptor, b"?", 2500))
    async with open_storage(settings) as storage:
        with pytest.raises(StorageError) as raised:
            await storage.put_file("a/b", source)
        assert raised.value.code == "storage_verify_failed"
        assert await storage.size("a/b") is None
    assert files_below(root) == []


async def test_a_full_disk_is_said_and_the_older_file_stays(
    settings: Settings, root: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with open_storage(settings) as storage:
        older = await storage.put_file("a/b", source)
        source.write_bytes(b"newer")
        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(StorageError) as raised:
            await storage.put_file("a/b", source)
        assert raised.value.code == "disk_full"
        assert raised.value.hint is not None
        assert await storage.size("a/b") == older.size
    assert files_below(root) == ["b"]


async def test_what_a_killed_process_left_half_written_goes_and_what_is_being_written_stays(
    settings: Settings, root: Path
) -> None:
    incoming = root / INCOMING
    incoming.mkdir(parents=True)
    mine = f".{new_owner()}.part"
    files = [(f".another|1|1|x{n}.part", age) for n, age in enumerate((ABANDONED_SECONDS + 60, 60))]
    for name, age_seconds in [*files, (f".{dead_owner()}.part", 0), (mine, 0)]:
        (incoming / name).write_bytes(b"half")
        os.utime(incoming / name, (time.time() - age_seconds,) * 2)

    async with open_storage(settings):
        assert set(files_below(incoming)) == {".another|1|1|x1.part", mine}


async def test_a_folder_that_cannot_be_made_is_one_clear_error(settings: Settings, root: Path) -> None:
    root.parent.mkdir(parents=True)
    root.write_text("a file where the folder should be")
    with pytest.raises(StorageError) as raised:
        async with open_storage(settings):
            pass
    assert str(root) in raised.value.detail


async def test_a_check_says_that_the_folder_is_gone_for_good(settings: Settings, root: Path) -> None:
    async with open_storage(settings) as storage:
        (root / INCOMING).rmdir()
        root.rmdir()
        root.write_text("a file where the folder should be")
        with pytest.raises(StorageError):
            await storage.check()


async def test_a_file_lies_where_local_path_says_and_has_no_link(settings: Settings, source: Path) -> None:
    async with open_storage(settings) as storage:
        await storage.put_file("a/b", source)
        path = storage.local_path("a/b")
        assert path is not None
        assert path.read_bytes() == source.read_bytes()
        assert await storage.presigned_url("a/b", expires_seconds=60, filename="b") is None


async def test_a_folder_is_not_a_file(settings: Settings, source: Path) -> None:
    async with open_storage(settings) as storage:
        await storage.put_file("a/b", source)
        assert await storage.size("a") is None
        with pytest.raises(FileNotFoundError):
            await storage.get_file("a", source.with_name("out"))
