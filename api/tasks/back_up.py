"""Backups that make themselves: soon after anything has changed that a machine must not take with it."""

import asyncio
import math
import time
from typing import Any

import sqlalchemy as sa
import structlog
from sqlmodel import col

from api.backup.make import make
from api.backup.place import Place, is_wanted, open_place
from api.db import DATABASE_ERRORS
from api.errors import MasukaError
from api.models import Dataset, GeneratedAsset, Job, Model, TrainingCheckpoint, TrainingSession
from api.resources import Resources

log = structlog.get_logger(__name__)

LOOK_SECONDS = 5.0
"""How soon the end of a job, or a training checkpoint, is noticed."""
LATEST_SECONDS = 60.0
"""So often a backup is made in any case; when nothing has changed, nothing is written."""
SHARE = 0.05
"""Of the time, at most, that backups take: a large database is backed up less often."""
AGAIN_SECONDS = 60.0
"""After a failure."""


async def back_up_forever(resources: Resources) -> None:
    settings = resources.settings
    while is_wanted(settings):
        try:
            async with open_place(settings, resources.storage, None) as place:
                await _back_up(resources, place)
        except (MasukaError, *DATABASE_ERRORS) as exc:
            log.warning("backup_failed", error=str(exc), code=getattr(exc, "code", None))
            await asyncio.sleep(AGAIN_SECONDS)


async def _back_up(resources: Resources, place: Place) -> None:
    """For ever. Raises MasukaError, and what a database raises that does not answer."""
    seen: Any = None
    while True:
        began = time.monotonic()
        seen = await milestones(resources)
        made = await make(place, resources.sessions, resources.storage, resources.settings)
        took = time.monotonic() - began
        if made.new:
            log.info("backed_up", snapshot=made.snapshot, rows=made.rows, files=made.files, seconds=round(took, 1))
        if made.missing:
            log.warning("files_missing", count=len(made.missing), first=made.missing[0])
        await asyncio.sleep(max(LOOK_SECONDS, took / SHARE))
        await _until_news(resources, seen, began + LATEST_SECONDS)


async def _until_news(resources: Resources, seen: Any, latest: float) -> None:
    """Return when something was made since, at the latest at that time of `time.monotonic()`."""
    for _ in range(math.ceil((latest - time.monotonic()) / LOOK_SECONDS)):
        if await milestones(resources) != seen:
            return
        await asyncio.sleep(LOOK_SECONDS)


async def milestones(resources: Resources) -> Any:
    """What changes when something is made that a backup should have soon, and stays while a job only gets on."""
    tables = (Dataset, GeneratedAsset, Model, TrainingSession)
    counts = [sa.select(sa.func.count()).select_from(table).scalar_subquery() for table in tables]
    newest = [
        sa.select(sa.func.max(column)).scalar_subquery()
        for column in (col(Job.finished_at), col(TrainingCheckpoint.stored_at), col(Dataset.updated_at))
    ]
    async with resources.sessions() as session:
        return tuple((await session.execute(sa.select(*counts, *newest))).one())
