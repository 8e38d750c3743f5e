"""Forgets input pictures that nobody uses any more; runs in the cpu worker."""

import asyncio

import structlog

from api.db import DATABASE_ERRORS
from api.resources import Resources
from api.services import inputs

log = structlog.get_logger(__name__)

INTERVAL_SECONDS = 3600.0


async def sweep_inputs_forever(resources: Resources) -> None:
    while True:
        try:
            async with resources.sessions.begin() as session:
                await inputs.sweep(session, resources.settings.masuka_input_days)
        except DATABASE_ERRORS as exc:
            log.warning("inputs_not_swept", error=str(exc))
        await asyncio.sleep(INTERVAL_SECONDS)
