"""Waits for a storage that does not answer, so that what took long to make is not made again."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from api.errors import RetryableError, StorageError
from api.tasks.attempt import Attempt

log = structlog.get_logger(__name__)

PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
PASSING = frozenset({"storage_unreachable", "storage_verify_failed"})
"""Troubles that may be over a little later; a full disk or a wrong key is not."""

T = TypeVar("T")


async def patiently(attempt: Attempt, work: Callable[[], Awaitable[T]]) -> T:
    """What `work` returns; done again, at growing intervals, as long as the storage is in passing trouble.

    Raises RetryableError with the storage's own code when that lasts for two minutes, any other StorageError at once.
    """
    for pause in PAUSES_SECONDS:
        try:
            return await work()
        except StorageError as exc:
            if exc.code not in PASSING:
                raise
            log.warning("storage_waited_for", seconds=pause, error=exc.detail)
            await attempt.progress(urgent=True, message=f"{exc.detail} Trying again in {pause:g} s")
        await asyncio.sleep(pause)
    try:
        return await work()
    except StorageError as exc:
        if exc.code not in PASSING:
            raise
        raise RetryableError(exc.detail, code=exc.code, value=exc.value, hint=exc.hint) from exc
