"""Temporary folders go with their owner, however it ends."""

import asyncio
import os
import shutil
import threading
from pathlib import Path

import pytest

from api.scratch import scratch, scratch_root, sweep
from api.settings import Settings
from tests.owners import dead_owner, living_owner
from tests.waiting import until


async def test_a_folder_is_there_for_the_block_and_gone_after_it(settings: Settings) -> None:
    async with scratch(settings) as folder:
        (folder / "inside").mkdir()
        (folder / "inside" / "file").write_text("x")

    assert not folder.exists()


async def test_a_folder_is_gone_when_its_block_fails(settings: Settings) -> None:
    with pytest.raises(ZeroDivisionError):
        async with scratch(settings):
            raise ZeroDivisionError

    assert not list(scratch_root(settings).iterdir())


async def test_two_at_once_do_not_meet(settings: Settings) -> None:
    async with scratch(settings) as one, scratch(settings) as other:
        assert one != other


async def test_only_what_the_dead_left_is_swept(settings: Settings) -> None:
    root = scratch_root(settings)
    with living_owner() as living:
        async with scratch(settings) as mine:
            dead = dead_owner()
            for name in (living, dead, "not-ours"):
                (root / name).mkdir(parents=True)
                (root / name / "file").write_text("x")

            assert sweep(settings) == 1

            assert {path.name for path in root.iterdir()} == {living, mine.name, "not-ours"}


async def test_the_loop_goes_on_while_a_slow_disk_removes_a_folder_even_for_one_who_is_cancelled(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, may_end = threading.Event(), threading.Event()
    remove = shutil.rmtree

    def slowly(path: Path, ignore_errors: bool) -> None:
        began.set()
        assert may_end.wait(5)
        remove(path, ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", slowly)

    async def use() -> None:
        async with scratch(settings):
            pass

    user = asyncio.create_task(use())
    await until(began.is_set)
    assert not user.done()
    user.cancel()
    await asyncio.wait({user})
    may_end.set()

    await until(lambda: not list(scratch_root(settings).iterdir()))


def test_what_an_unknown_owner_left_is_swept_when_it_is_old(settings: Settings) -> None:
    root = scratch_root(settings)
    new, old, not_ours = (root / name for name in ("elsewhere|1|1|new", "elsewhere|1|1|old", "not-ours"))
    for folder in (new, old, not_ours):
        folder.mkdir(parents=True)
    for folder in (old, not_ours):
        os.utime(folder, (0, 0))

    assert sweep(settings) == 1

    assert set(root.iterdir()) == {new, not_ours}


def test_sweeping_where_nothing_was_ever_written_is_no_error(settings: Settings) -> None:
    assert sweep(settings) == 0
