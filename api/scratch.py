"""Temporary folders on the data disk that no crash leaves behind for long: each is named for its owner."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from api.lease import new_owner, owner_is_dead
from api.settings import Settings

ABANDONED_SECONDS = 24 * 3600
"""Nothing here takes so long. Whether an owner in a container that is gone has died, nobody can tell."""


def scratch_root(settings: Settings) -> Path:
    return settings.masuka_data_dir / "tmp"


@asynccontextmanager
async def scratch(settings: Settings) -> AsyncIterator[Path]:
    """A folder of one's own, gone afterwards, also when it is cancelled while the files are removed."""
    path = scratch_root(settings) / new_owner()
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        # In a thread: thousands of files on a slow disk take longer than an event loop may be busy.
        await asyncio.shield(asyncio.to_thread(shutil.rmtree, path, ignore_errors=True))


def sweep(settings: Settings) -> int:
    """Remove the folders of dead processes; how many there were."""
    abandoned = [path for path in scratch_root(settings).glob("*|*|*|*") if _is_abandoned(path)]
    for path in abandoned:
        shutil.rmtree(path, ignore_errors=True)
    return len(abandoned)


def _is_abandoned(path: Path) -> bool:
    try:
        return owner_is_dead(path.name) or path.stat().st_mtime < time.time() - ABANDONED_SECONDS
    except FileNotFoundError:  # its owner was faster
        return False
