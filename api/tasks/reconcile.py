"""Makes true again what a crash left untrue; runs in the cpu worker at start and every few seconds."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from functools import partial
from time import monotonic
from uuid import UUID

import sqlalchemy as sa
import structlog
from sqlmodel import col

from api.db import DATABASE_ERRORS
from api.domain.job import Queue, Status
from api.lease import owner_is_dead
from api.models import Job, StoredAnswer
from api.models.base import utcnow
from api.resources import Resources
from api.scratch import sweep
from api.services import datasets, idempotency, jobs, unrecorded

log = structlog.get_logger(__name__)

INTERVAL_SECONDS = 3.0
GRACE_SECONDS = 5.0
"""For how long a lease must have been seen run out: after a time without a database, or a machine that slept, all have,
and their owners need a moment to renew them."""


class Lapsed:
    """Leases that have run out, and since when that is known here."""

    def __init__(self, grace_seconds: float = GRACE_SECONDS) -> None:
        self._grace = grace_seconds
        self._since: dict[tuple[UUID, datetime], float] = {}

    def seen(self, jobs: Iterable[Job]) -> set[UUID]:
        """Of these running jobs, those whose lease is over for good; to be told all of them at every look."""
        now, clock = utcnow(), monotonic()
        lapsed = {(job.id, job.lease_until) for job in jobs if job.lease_until is not None and job.lease_until < now}
        self._since = {lease: self._since.get(lease, clock) for lease in lapsed}
        return {job_id for (job_id, _), since in self._since.items() if clock - since >= self._grace}


async def reconcile_forever(resources: Resources) -> None:
    """Jobs and files by turns of their own: a storage that does not answer must not keep a lost job waiting."""
    lapsed = Lapsed()
    async with asyncio.TaskGroup() as group:
        group.create_task(_again_and_again(partial(reconcile, lapsed=lapsed), resources))
        group.create_task(_again_and_again(remove_leftovers, resources))


async def _again_and_again(work: Callable[[Resources], Awaitable[None]], resources: Resources) -> None:
    while True:
        try:
            await work(resources)
        except DATABASE_ERRORS as exc:
            log.warning("reconcile_failed", error=str(exc))
        await asyncio.sleep(INTERVAL_SECONDS)


async def reconcile(resources: Resources, *, lapsed: Lapsed) -> None:
    """End lost leases, and ring for every queue that has pending jobs."""
    await end_lost(resources, lapsed)
    for queue in await _queues_with_work(resources):
        await resources.queue.ring(queue)


async def remove_leftovers(resources: Resources) -> None:
    """Forget old answers, and remove the files of dead processes and of what was deleted."""
    async with resources.sessions.begin() as session:
        await session.execute(sa.delete(StoredAnswer).where(col(StoredAnswer.created_at) < utcnow() - idempotency.KEPT))
    await asyncio.to_thread(sweep, resources.settings)
    await unrecorded.discard_abandoned(resources.sessions, resources.storage)
    await datasets.discard_abandoned(resources.sessions, resources.storage)


async def end_lost(resources: Resources, lapsed: Lapsed) -> None:
    """End the leases of dead workers; their jobs wait for another attempt, or have failed."""
    for job in await _expire_lost(resources, lapsed):
        log.warning("worker_lost", job_id=str(job.id), status=job.status, attempt=job.attempt)
        await resources.progress.publish(job.id, jobs.snapshot_of(job))


async def _expire_lost(resources: Resources, lapsed: Lapsed) -> list[Job]:
    async with resources.sessions.begin() as session:
        running = (await session.scalars(sa.select(Job).where(col(Job.status) == Status.RUNNING.value))).all()
        over = lapsed.seen(running)
        lost = [job for job in running if job.id in over or (job.lease_owner and owner_is_dead(job.lease_owner))]
        ended = [await jobs.expire(session, job) for job in lost]
    return [job for job in ended if job is not None]


async def _queues_with_work(resources: Resources) -> list[Queue]:
    async with resources.sessions() as session:
        names = await session.scalars(
            sa.select(col(Job.queue)).where(col(Job.status) == Status.PENDING.value).distinct()
        )
        return [Queue(name) for name in names]
