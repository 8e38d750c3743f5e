"""Temporary folders on the data disk that no crash leaves behind for long: each is named for its owner."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from api.lease import new_owner, owner_is_dead
from api.settings import Settings


def scratch_root(settings: Settings) -> Path:
    return settings.masuka_data_dir / "tmp"


@contextmanager
def scratch(settings: Settings) -> Iterator[Path]:
    """A folder of one's own, gone afterwards. Removing thousands of files takes a moment; nothing else blocks."""
    path = scratch_root(settings) / new_owner()
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def sweep(settings: Settings) -> int:
    """Remove the folders of dead processes; how many there were."""
    dead = [path for path in scratch_root(settings).glob("*") if owner_is_dead(path.name)]
    for path in dead:
        shutil.rmtree(path, ignore_errors=True)
    return len(dead)
