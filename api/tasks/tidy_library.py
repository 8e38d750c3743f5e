"""Removes LoRAs whose time to be restored is over, and downloads that nobody goes on with; runs in the cpu worker."""

import asyncio
import shutil
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

import structlog

from api.db import DATABASE_ERRORS
from api.domain.job import Status
from api.models import ModelImport
from api.models.base import utcnow
from api.resources import Resources
from api.services import loras
from api.tasks.import_model import imports_root

log = structlog.get_logger(__name__)

INTERVAL_SECONDS = 600.0


async def tidy_library_forever(resources: Resources) -> None:
    while True:
        try:
            await tidy_library(resources)
        except DATABASE_ERRORS as exc:
            log.warning("library_not_tidied", error=str(exc))
        await asyncio.sleep(INTERVAL_SECONDS)


async def tidy_library(resources: Resources) -> None:
    async with resources.sessions.begin() as session:
        await loras.purge(session, resources.settings.masuka_trash_days)
    keep = timedelta(days=resources.settings.masuka_keep_failed_days)
    for import_id, folder in (await asyncio.to_thread(_folders, resources)).items():
        async with resources.sessions() as session:
            row = await session.get(ModelImport, import_id)
        if row is None or is_over(row.status, row.completed_at, utcnow(), keep):
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def _folders(resources: Resources) -> dict[UUID, Path]:
    found = {}
    for folder in imports_root(resources.settings).glob("*"):
        with suppress(ValueError):  # not ours: our folders are named by ids
            found[UUID(folder.name)] = folder
    return found


def is_over(status: str, ended: datetime | None, now: datetime, keep: timedelta) -> bool:
    """Whether the download is of no use any more: one that has failed can be gone on with by a retry."""
    if status == Status.FAILED.value:
        return ended is not None and ended < now - keep
    return status in (Status.COMPLETED.value, Status.CANCELLED.value)
