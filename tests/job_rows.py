"""Jobs with the rows they are for, as the services write them, and what must hold of both."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import col

from api.db import Sessions, open_database
from api.domain.job import TERMINAL, Kind, Queue, Status, shown
from api.models import Captioning, Dataset, GeneratedAsset, Job, ModelImport, TrainingSession
from api.models.base import utcnow
from api.services import jobs
from api.services.jobs import Lease
from api.services.turns import Turn, next_pending
from api.settings import Settings
from tests.service import with_values

Subject = TrainingSession | GeneratedAsset | ModelImport | Captioning


@asynccontextmanager
async def open_sessions(settings: Settings, database_url: str) -> AsyncIterator[Sessions]:
    async with open_database(with_values(settings, database_url=database_url)) as sessions:
        yield sessions


async def add(
    sessions: Sessions,
    kind: Kind = Kind.IMAGE,
    *,
    affinity: str | None = None,
    priority: int = 0,
    seconds_ago: float = 0,
    max_attempts: int = 3,
) -> UUID:
    """A pending job and the row it is for; its id."""
    job = Job.new(kind, affinity=affinity, priority=priority)
    job.created_at, job.max_attempts = utcnow() - timedelta(seconds=seconds_ago), max_attempts
    dataset = Dataset(name="me", storage_path="datasets/me", is_processed=True)
    subject = {
        Kind.TRAINING: TrainingSession(name="me", total_steps=100, task_id=job.id),
        Kind.IMAGE: GeneratedAsset(prompt="me", task_id=job.id),
        Kind.IMPORT: ModelImport(name="me", task_id=job.id),
        Kind.CAPTION: Captioning(dataset_id=dataset.id, captioner="florence-2", task_id=job.id),
    }[kind]
    async with sessions.begin() as session:
        if kind is Kind.CAPTION:
            session.add(dataset)
            await session.flush()
        session.add_all((job, subject))
    return job.id


async def claim(
    sessions: Sessions, owner: str, *, affinity: str | None = None, queue: Queue = Queue.GPU
) -> UUID | None:
    async with sessions.begin() as session:
        while (best := await next_pending(session, queue, Turn(affinity))) is not None:
            if await jobs.claim(session, best.id, owner) is not None:
                return best.id
    return None


async def started(sessions: Sessions, owner: str = "a", kind: Kind = Kind.IMAGE, *, max_attempts: int = 3) -> Lease:
    """The lease of a new job that `owner` runs."""
    job_id = await add(sessions, kind, max_attempts=max_attempts)
    assert await claim(sessions, owner, queue=kind.queue) == job_id
    return Lease(job_id, owner)


async def read(sessions: Sessions, job_id: UUID) -> Job:
    async with sessions() as session:
        return await jobs.get(session, job_id)


async def nothing_waits(sessions: Sessions) -> bool:
    """Whether every job has ended."""
    active = sa.exists().where(col(Job.finished_at).is_(None))
    async with sessions() as session:
        return not await session.scalar(sa.select(active))


async def subject_of(sessions: Sessions, job_id: UUID) -> Subject | None:
    async with sessions() as session:
        training = await session.scalar(sa.select(TrainingSession).where(col(TrainingSession.task_id) == job_id))
        asset = await session.scalar(sa.select(GeneratedAsset).where(col(GeneratedAsset.task_id) == job_id))
        imported = await session.scalar(sa.select(ModelImport).where(col(ModelImport.task_id) == job_id))
        captioning = await session.scalar(sa.select(Captioning).where(col(Captioning.task_id) == job_id))
        return training or asset or imported or captioning


async def let_lease_run_out(sessions: Sessions, job_id: UUID) -> None:
    """What LEASE_SECONDS without a renewal do."""
    async with sessions.begin() as session:
        past = utcnow() - timedelta(seconds=1)
        await session.execute(sa.update(Job).where(col(Job.id) == job_id).values(lease_until=past))


async def expire(sessions: Sessions, job_id: UUID) -> Job | None:
    """End the lease as reconcile does: judge the row, then compare and set."""
    async with sessions.begin() as session:
        return await jobs.expire(session, await jobs.get(session, job_id))


async def assert_sound(sessions: Sessions, job_id: UUID) -> None:
    """What holds of every job at every moment."""
    assert_rows_sound(await read(sessions, job_id), await subject_of(sessions, job_id))


def assert_rows_sound(job: Job, subject: Subject | None) -> None:
    """The same of rows already read; a job that was retried has no subject any more."""
    status = job.status_enum
    assert (job.lease_owner is not None) == (job.lease_until is not None) == (status is Status.RUNNING)
    assert (job.finished_at is not None) == (status in TERMINAL)
    assert 1 <= job.attempt <= job.max_attempts
    assert job.error_code is None or status is Status.FAILED
    assert job.cancel_requested_at is None or status is not Status.PENDING
    if subject is not None:
        mirrored = (subject.status, subject.error_message, subject.completed_at)
        assert mirrored == (shown(job.kind_enum, status), job.error_message, job.finished_at)
    if isinstance(subject, TrainingSession):
        last = jobs.snapshot_of(job)
        assert (subject.started_at, subject.progress) == (job.started_at, last.progress)
        assert (subject.current_step, subject.current_loss) == (last.step, last.loss)
