"""Where pending jobs stand, from the rows: a few queries, however many wait."""

from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.domain.job import Kind, Queue, Status
from api.domain.queueing import Pace, Place, Running, Waiting, pace, places
from api.models import Job, TrainingSession
from api.models.base import utcnow
from api.services.turns import Turn, in_turn, pending
from api.settings import Settings

RECENT_PICTURES = 20
RECENT_TRAININGS = 5


async def standing(session: AsyncSession, settings: Settings, queue: Queue = Queue.GPU) -> dict[UUID, Place]:
    """The place of every pending job of this queue."""
    rows = (await session.execute(_running(queue))).all()
    now = utcnow()
    running = [_running_of(job, name, total_steps, now) for job, name, total_steps in rows]
    trains = any(job.kind.exclusive for job in running)
    # When the training that runs will have ended, every picture that is there now will have waited for it.
    turn = Turn(_affinity([job for job, _, _ in rows]), settings.shares_gpu and trains, now if trains else None)
    waiting = [
        Waiting(one.id, Kind(one.kind), one.name, one.total_steps or 0) for one in await _waiting(session, turn, queue)
    ]
    return places(waiting, running, await _pace(session, queue), shares=settings.shares_gpu)


async def place_of(session: AsyncSession, settings: Settings, job: Job) -> Place | None:
    """None for a job that does not wait."""
    if job.status_enum is not Status.PENDING:
        return None
    return (await standing(session, settings, Queue(job.queue))).get(job.id)


async def _waiting(session: AsyncSession, turn: Turn, queue: Queue) -> list[Any]:
    query = (
        sa.select(col(Job.id), col(Job.kind), col(TrainingSession.name), col(TrainingSession.total_steps))
        .outerjoin(TrainingSession, col(TrainingSession.task_id) == col(Job.id))
        .where(*pending(queue))
        .order_by(*in_turn(queue, turn))
    )
    return list((await session.execute(query)).all())


def _running(queue: Queue) -> sa.Select[Job, str, int]:
    return (
        sa.select(Job, col(TrainingSession.name), col(TrainingSession.total_steps))
        .outerjoin(TrainingSession, col(TrainingSession.task_id) == col(Job.id))
        .where(col(Job.queue) == queue.value, col(Job.status) == Status.RUNNING.value)
    )


def _running_of(job: Job, name: str | None, total_steps: int | None, now: datetime) -> Running:
    elapsed = 0.0 if job.started_at is None else (now - job.started_at).total_seconds()
    return Running(job.kind_enum, name, total_steps or 0, elapsed, job.progress.get("eta_seconds"))


def _affinity(running: list[Job]) -> str | None:
    """What the next picture is likely to be preferred for."""
    begun = [job for job in running if job.started_at is not None and job.affinity is not None]
    return max(begun, key=lambda job: (job.started_at, job.created_at)).affinity if begun else None


async def _pace(session: AsyncSession, queue: Queue) -> Pace:
    pictures = await session.execute(_recent(queue, Kind.IMAGE).limit(RECENT_PICTURES))
    trainings = await session.execute(
        _recent(queue, Kind.TRAINING)
        .join(TrainingSession, col(TrainingSession.task_id) == col(Job.id))
        .add_columns(col(TrainingSession.total_steps))
        .limit(RECENT_TRAININGS)
    )
    return pace(
        [(start, end) for start, end in pictures if start and end],
        [(start, end, steps) for start, end, steps in trainings if start and end],
    )


def _recent(queue: Queue, kind: Kind) -> sa.Select[datetime | None, datetime | None]:
    """When the last completed jobs of this kind began and ended."""
    return (
        sa.select(col(Job.started_at), col(Job.finished_at))
        .where(
            col(Job.queue) == queue.value,
            col(Job.kind) == kind.value,
            col(Job.status) == Status.COMPLETED.value,
        )
        .order_by(col(Job.finished_at).desc())
    )
