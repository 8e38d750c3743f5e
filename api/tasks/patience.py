"""Waits for a storage that does not answer or has no space, so that what took long to make is not made again."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import chain, repeat
from typing import TypeVar

import structlog

from api.errors import RetryableError, StorageError
from api.tasks.attempt import Attempt
from api.tasks.room import wait_for_floor

log = structlog.get_logger(__name__)

PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
PASSING = frozenset({"storage_unreachable", "storage_verify_failed"})
"""Troubles that may be over a little later; a wrong key is not."""

T = TypeVar("T")


async def patiently(attempt: Attempt, work: Callable[[], Awaitable[T]], *, for_ever: bool = False) -> T:
    """What `work` returns; done again, at growing intervals, as long as the storage is in passing trouble.

    A full disk is waited for until it has space. Raises RetryableError with the storage's own code when another
    trouble lasts for two minutes, unless it is to be waited for `for_ever`; any other StorageError at once.
    """
    pauses = chain(PAUSES_SECONDS, repeat(PAUSES_SECONDS[-1]) if for_ever else ())
    while True:
        try:
            return await work()
        except StorageError as exc:
            if exc.code == "disk_full":
                await wait_for_floor(attempt, exc.detail)
            elif exc.code in PASSING:
                await _pause(attempt, exc, next(pauses, None))
            else:
                raise


async def _pause(attempt: Attempt, trouble: StorageError, seconds: float | None) -> None:
    if seconds is None:
        about = {"code": trouble.code, "value": trouble.value, "hint": trouble.hint}
        raise RetryableError(trouble.detail, **about) from trouble
    log.warning("storage_waited_for", seconds=seconds, error=trouble.detail)
    await attempt.progress(urgent=True, message=f"{trouble.detail} Trying again in {seconds:g} s")
    await asyncio.sleep(seconds)
