"""Free space is promised to one job at a time, and a job's own files are part of what it was promised."""

import asyncio
import shutil
from pathlib import Path

from api.disk import DiskSpace, Need, folder_bytes, read_usage
from tests.space import Space


def test_the_reading_is_what_the_system_says(tmp_path: Path) -> None:
    found = shutil.disk_usage(tmp_path)
    usage = read_usage(tmp_path)
    assert usage.total == found.total
    assert 0 < usage.free < usage.total


async def test_the_floor_is_promised_to_nobody(tmp_path: Path) -> None:
    disk = DiskSpace(tmp_path, 100, Space(free=150))
    assert await disk.ask("a", Need(51)) == 1
    assert await disk.ask("a", Need(50)) == 0


async def test_two_jobs_are_not_promised_the_same_bytes(tmp_path: Path) -> None:
    disk = DiskSpace(tmp_path, 0, Space(free=100))
    missing = await asyncio.gather(disk.ask("a", Need(60)), disk.ask("b", Need(60)))
    assert sorted(missing) == [0, 20]


async def test_a_job_that_was_refused_or_has_ended_holds_nothing(tmp_path: Path) -> None:
    disk = DiskSpace(tmp_path, 0, Space(free=100))
    assert await disk.ask("a", Need(101)) == 1
    assert await disk.ask("b", Need(100)) == 0
    disk.release("b")
    disk.release("b")
    assert await disk.ask("c", Need(100)) == 0


async def test_asking_again_replaces_the_promise(tmp_path: Path) -> None:
    disk = DiskSpace(tmp_path, 0, Space(free=100))
    assert [await disk.ask("a", Need(100)) for _ in range(2)] == [0, 0]


async def test_what_a_job_has_written_is_no_longer_owed_to_it(tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "deep").mkdir(parents=True)
    (work / "deep" / "file").write_bytes(b"x" * 60)
    disk = DiskSpace(tmp_path, 0, Space(free=100))
    disk.promise("a", Need(90, (work,)))
    assert await disk.ask("b", Need(70)) == 0
    assert await disk.ask("c", Need(1)) == 1


async def test_a_job_that_resumes_asks_only_for_the_rest(tmp_path: Path) -> None:
    folders = tmp_path / "work", tmp_path / "stored"
    for folder in folders:
        folder.mkdir()
        (folder / "file").write_bytes(b"x" * 30)
    assert await DiskSpace(tmp_path, 0, Space(free=30)).ask("a", Need(90, folders)) == 0


def test_a_folder_that_is_not_there_has_no_bytes(tmp_path: Path) -> None:
    assert folder_bytes(tmp_path / "none") == 0
