"""What an attempt has stored and nobody wants any more."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from api.domain.job import StopReason
from api.errors import StorageError
from api.see_through import see_through
from api.storage import Storage
from api.tasks.attempt import Attempt

log = structlog.get_logger(__name__)


@asynccontextmanager
async def discarded_on_cancel(attempt: Attempt, key: str) -> AsyncIterator[None]:
    """When the owner's wish ends the attempt in here, the storage has nothing under `key` afterwards.

    An attempt that ends otherwise has successors, which write the same again; so `key` must belong to its job alone.
    """
    try:
        yield
    except asyncio.CancelledError:
        if attempt.stop_reason is StopReason.USER:
            await see_through(_discard(attempt.resources.storage, key))
        raise


async def _discard(storage: Storage, key: str) -> None:
    try:
        await storage.delete(key)
    except StorageError as exc:
        log.warning("file_not_discarded", key=key, error=exc.detail)
