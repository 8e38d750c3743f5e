"""Everything a process of MASUKA holds open, opened and closed in one place; the API and the workers share it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from arq.connections import ArqRedis

from api.db import Sessions, open_database
from api.disk import DiskSpace
from api.domain.disk import MB
from api.errors import UnreachableError
from api.logs import report
from api.looks import Looks
from api.previews import Previews
from api.progress import Progress
from api.queue import JobQueue, open_redis
from api.settings import Settings
from api.storage import Storage, open_storage
from api.together import Together

REACH_SECONDS = 2.0
"""Between two looks for a database that is away."""


@dataclass(frozen=True, slots=True)
class Resources:
    settings: Settings
    sessions: Sessions
    redis: ArqRedis
    queue: JobQueue
    progress: Progress
    previews: Previews
    storage: Storage
    disk: DiskSpace
    looks: Looks = field(default_factory=Looks)
    together: Together = field(default_factory=Together)


@asynccontextmanager
async def open_resources(settings: Settings, redis_url: str) -> AsyncIterator[Resources]:
    """Open what a process needs; `redis_url` is the user's, or the embedded server's.

    Raises ConfigError when the database or the storage cannot be used.
    """
    redis = open_redis(redis_url)
    queue, progress = JobQueue(redis), Progress(redis)
    try:
        async with open_database(settings) as sessions, open_storage(settings) as storage:
            disk = DiskSpace(settings.masuka_data_dir, settings.masuka_min_free_disk_mb * MB)
            yield Resources(settings, sessions, redis, queue, progress, Previews(redis), storage, disk)
    finally:
        await queue.close()
        await progress.close()
        await redis.aclose(close_connection_pool=True)  # a client does not close a pool that it was given


async def until_reachable(settings: Settings, stopped: asyncio.Event) -> bool:
    """Wait for a database that does not answer yet, saying so once; False when `stopped` came first.

    The other servers are only needed later, and their absence is then waited out. Raises ConfigError when waiting
    would not help.
    """
    said = ""
    while not stopped.is_set():
        try:
            async with open_database(settings):
                return True
        except UnreachableError as exc:
            if exc.detail != said:
                report(exc)
                said = exc.detail
        with suppress(TimeoutError):
            async with asyncio.timeout(REACH_SECONDS):
                await stopped.wait()
    return False
