"""Removes LoRAs of training checkpoints that were there to be chosen long enough; runs in the cpu worker."""

import asyncio
from datetime import timedelta
from itertools import accumulate

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.db import DATABASE_ERRORS
from api.domain.job import TERMINAL
from api.models import TrainingCandidate, TrainingSession
from api.models.base import utcnow
from api.resources import Resources
from api.services import candidates

log = structlog.get_logger(__name__)

INTERVAL_SECONDS = 600.0
BYTES_PER_GB = 10**9
ENDED = tuple(status.value for status in TERMINAL)


async def tidy_candidates_forever(resources: Resources) -> None:
    while True:
        try:
            await tidy_candidates(resources)
        except DATABASE_ERRORS as exc:
            log.warning("candidates_not_tidied", error=str(exc))
        await asyncio.sleep(INTERVAL_SECONDS)


async def tidy_candidates(resources: Resources) -> None:
    """Those of trainings that ended long ago, and above the limit of bytes those of the oldest; no running one's."""
    settings = resources.settings
    async with resources.sessions.begin() as session:
        over = utcnow() - timedelta(days=settings.masuka_checkpoint_lora_days)
        old = await _of_ended(session, col(TrainingSession.completed_at) <= over)
        gone = await candidates.remove(session, old)
        limit = settings.masuka_checkpoint_lora_gb * BYTES_PER_GB
        gone += await candidates.remove(session, await _above(session, limit))
    if gone:
        log.info("candidates_removed", count=gone)


async def _of_ended(session: AsyncSession, *where: sa.ColumnElement[bool]) -> list[TrainingCandidate]:
    """The newest first, by the end of their trainings."""
    query = (
        sa.select(TrainingCandidate)
        .join(TrainingSession, col(TrainingSession.id) == col(TrainingCandidate.session_id))
        .where(candidates.AVAILABLE, col(TrainingSession.status).in_(ENDED), *where)
        .order_by(col(TrainingSession.completed_at).desc(), col(TrainingCandidate.created_at).desc())
    )
    return list(await session.scalars(query))


async def _above(session: AsyncSession, limit: float) -> list[TrainingCandidate]:
    """What must go so that all together are below the limit."""
    total = await session.scalar(sa.select(sa.func.sum(col(TrainingCandidate.size_bytes))).where(candidates.AVAILABLE))
    rows = await _of_ended(session)
    running = (total or 0) - sum(row.size_bytes for row in rows)
    sizes = accumulate((row.size_bytes for row in rows), initial=int(running))
    next(sizes)
    return [row for row, size in zip(rows, sizes, strict=True) if size > limit]
