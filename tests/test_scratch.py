"""Temporary folders go with their owner, however it ends."""

import os

import pytest

from api.scratch import scratch, scratch_root, sweep
from api.settings import Settings
from tests.owners import dead_owner, living_owner


def test_a_folder_is_there_for_the_block_and_gone_after_it(settings: Settings) -> None:
    with scratch(settings) as folder:
        (folder / "inside").mkdir()
        (folder / "inside" / "file").write_text("x")

    assert not folder.exists()


def test_a_folder_is_gone_when_its_block_fails(settings: Settings) -> None:
    with pytest.raises(ZeroDivisionError), scratch(settings):
        raise ZeroDivisionError

    assert not list(scratch_root(settings).iterdir())


def test_two_at_once_do_not_meet(settings: Settings) -> None:
    with scratch(settings) as one, scratch(settings) as other:
        assert one != other


def test_only_what_the_dead_left_is_swept(settings: Settings) -> None:
    root = scratch_root(settings)
    with living_owner() as living, scratch(settings) as mine:
        dead = dead_owner()
        for name in (living, dead, "not-ours"):
            (root / name).mkdir(parents=True)
            (root / name / "file").write_text("x")

        assert sweep(settings) == 1

        assert {path.name for path in root.iterdir()} == {living, mine.name, "not-ours"}


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
