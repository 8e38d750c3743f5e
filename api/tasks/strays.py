"""Trainers that outlived their job: cancelled, or given up, while no worker was there to stop them."""

import asyncio

import sqlalchemy as sa
import structlog
from sqlmodel import col

from api.db import DATABASE_ERRORS
from api.domain.job import Kind, Status
from api.errors import EngineError
from api.models import TrainingSession
from api.resources import Resources
from api.tasks.train import workdirs
from api.trainer import process

log = structlog.get_logger(__name__)

INTERVAL_SECONDS = 5.0
GOES_ON = frozenset({Status.PENDING.value, Kind.TRAINING.running_word})


async def stop_strays_forever(resources: Resources) -> None:
    while True:
        await asyncio.sleep(INTERVAL_SECONDS)
        try:
            await stop_strays(resources)
        except DATABASE_ERRORS as exc:
            log.warning("strays_not_looked_for", error=str(exc))


async def stop_strays(resources: Resources) -> None:
    """Stop every trainer of this data folder whose session neither waits nor runs; the others have an attempt coming.

    Returns when they are gone.
    """
    running = {
        workdir.root.name: handle for workdir in workdirs(resources.settings) if (handle := process.find(workdir))
    }
    if not running:
        return
    async with resources.sessions() as session:
        active = await session.scalars(sa.select(TrainingSession).where(col(TrainingSession.status).in_(GOES_ON)))
        wanted = {str(row.id) for row in active}
    for name in running.keys() - wanted:
        log.warning("stray_trainer_stopped", session_id=name, pid=running[name].trainer_pid)
        try:
            await running[name].stop()
        except EngineError as exc:
            log.error("stray_trainer_stuck", error=str(exc))
