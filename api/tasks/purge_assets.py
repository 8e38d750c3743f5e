"""Removes pictures that were deleted long enough ago; runs in the cpu worker."""

import asyncio

import structlog

from api.db import DATABASE_ERRORS
from api.resources import Resources
from api.services import gallery

log = structlog.get_logger(__name__)

INTERVAL_SECONDS = 600.0


async def purge_assets_forever(resources: Resources) -> None:
    while True:
        try:
            await purge_assets(resources)
        except DATABASE_ERRORS as exc:
            log.warning("assets_not_purged", error=str(exc))
        await asyncio.sleep(INTERVAL_SECONDS)


async def purge_assets(resources: Resources) -> None:
    """All that are due, some at a time: others want to write, too."""
    purged = gallery.PURGED_AT_ONCE
    while purged == gallery.PURGED_AT_ONCE:
        async with resources.sessions.begin() as session:
            purged = await gallery.purge(session, resources.settings.masuka_trash_days)
        if purged:
            log.info("assets_purged", count=purged)
