"""Trainers that outlived their job: cancelled, or given up, while no worker was there to stop them."""

import asyncio

import sqlalchemy as sa
import structlog
from sqlmodel import col

from api.db import DATABASE_ERRORS
from api.domain.job import Status
from api.errors import EngineError
from api.lease import is_here
from api.models import Job, TrainingSession
from api.resources import Resources
from api.services.training_folder import workdirs
from api.trainer import process

log = structlog.get_logger(__name__)

INTERVAL_SECONDS = 5.0
GOES_ON = (Status.PENDING.value, Status.RUNNING.value)


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
        active = await session.execute(
            sa.select(col(TrainingSession.id), col(Job.status), col(Job.lease_owner))
            .join(Job, col(Job.id) == col(TrainingSession.task_id))
            .where(col(Job.status).in_(GOES_ON))
        )
        # One that runs on another host has a trainer there.
        wanted = {str(row.id) for row in active if row.status == Status.PENDING.value or is_here(row.lease_owner)}
    for name in running.keys() - wanted:
        log.warning("stray_trainer_stopped", session_id=name, pid=running[name].trainer_pid)
        try:
            await running[name].stop()
        except EngineError as exc:
            log.error("stray_trainer_stuck", error=str(exc))
