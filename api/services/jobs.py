"""The only writer of a job's status: every change is one compare-and-set, mirrored on the row the job is for."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.domain.job import (
    AFFINITY_MAX_WAIT_SECONDS,
    LEASE_SECONDS,
    NEXT,
    TERMINAL,
    Kind,
    Queue,
    Requeue,
    Status,
    after_loss,
    after_retryable,
    shown,
)
from api.domain.progress import Snapshot
from api.errors import ConflictError, JobError, MasukaError, NotFoundError
from api.models import GeneratedAsset, Job, TrainingSession
from api.models.base import utcnow

SUBJECT: dict[Kind, type[TrainingSession] | type[GeneratedAsset]] = {
    Kind.TRAINING: TrainingSession,
    Kind.IMAGE: GeneratedAsset,
}
"""The table of the row that a job of this kind is for; that row's `task_id` is the job's id."""


class LeaseLostError(MasukaError):
    """This attempt no longer holds its job, so it may change nothing."""

    default_code = "lease_lost"


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to change one running job; void once another attempt has claimed it."""

    job_id: UUID
    owner: str


async def get(session: AsyncSession, job_id: UUID) -> Job:
    job = await session.get(Job, job_id)
    if job is None:
        raise NotFoundError("There is no job with this id.", code="job_not_found", value=str(job_id))
    return job


# ---- claim and hold ----------------------------------------------------------------------------------------------


async def claim(
    session: AsyncSession,
    queue: Queue,
    owner: str,
    *,
    admits: Callable[[Kind], bool],
    affinity: str | None = None,
) -> Job | None:
    """Take the best pending job: by priority, then same affinity (never past a maximum wait), then age.

    When the best one is not admitted now nothing is taken, so that small jobs cannot starve a big one.
    """
    while True:
        now = utcnow()
        overdue = col(Job.created_at) < now - timedelta(seconds=AFFINITY_MAX_WAIT_SECONDS)
        first = sa.case((overdue, 0), (col(Job.affinity) == affinity, 1), else_=2) if affinity else sa.literal(0)
        best = await session.scalar(
            sa.select(Job)
            .where(col(Job.queue) == queue.value, col(Job.status) == Status.PENDING.value)
            .order_by(col(Job.priority).desc(), first, col(Job.created_at), col(Job.id))
            .limit(1)
        )
        if best is None or not admits(best.kind_enum):
            return None
        job = await _change(
            session,
            best.id,
            Status.PENDING,
            Status.RUNNING,
            lease_owner=owner,
            lease_until=now + timedelta(seconds=LEASE_SECONDS),
            started_at=best.started_at or now,
        )
        if job is not None:
            return job
        session.expire_all()


async def renew(session: AsyncSession, owners: Collection[str]) -> dict[str, datetime | None]:
    """Renew these leases; answer those still held, each with the time its cancel was asked for, if it was."""
    if not owners:
        return {}
    rows = await session.execute(
        sa.update(Job)
        .where(col(Job.lease_owner).in_(owners), col(Job.status) == Status.RUNNING.value)
        .values(lease_until=utcnow() + timedelta(seconds=LEASE_SECONDS))
        .returning(col(Job.lease_owner), col(Job.cancel_requested_at))
    )
    return {owner: cancel for owner, cancel in rows.all() if owner is not None}


async def save_progress(session: AsyncSession, lease: Lease, snapshot: Snapshot) -> None:
    """Keep the last snapshot on the job and, for a training, on its session.

    Raises LeaseLostError.
    """
    job = await session.scalar(
        sa.update(Job)
        .where(*_held(lease))
        .values(progress=snapshot.to_dict())
        .returning(Job)
        .execution_options(**_REFRESH)
    )
    if job is None:
        raise LeaseLostError(value=str(lease.job_id))
    await _mirror(session, job, snapshot)


# ---- how an attempt ends -----------------------------------------------------------------------------------------


async def complete(session: AsyncSession, lease: Lease) -> Job:
    """The proof is in hand: mark the job completed.

    Raises LeaseLostError; the caller's transaction must then be rolled back.
    """
    return await _end(session, lease, Status.COMPLETED)


async def cancel(session: AsyncSession, lease: Lease) -> Job:
    """The owner wished it and the work has stopped. Raises LeaseLostError."""
    return await _end(session, lease, Status.CANCELLED)


async def fail(session: AsyncSession, lease: Lease, error: MasukaError, *, retryable: bool = False) -> Job:
    """End the attempt with an error: back to pending if another attempt may do better, else failed.

    Raises LeaseLostError.
    """
    job = await get(session, lease.job_id)
    decision = after_retryable(job.attempt, job.max_attempts, code=error.code) if retryable else None
    if isinstance(decision, Requeue):
        return _or_lost(await _to_pending(session, job, lease.owner, decision.attempt), lease)
    return await _end(
        session,
        lease,
        Status.FAILED,
        error_code=error.code,
        error_message=error.detail,
        error_hint=error.hint,
        log_tail=error.log_tail if isinstance(error, JobError) else None,
    )


async def release(session: AsyncSession, lease: Lease) -> Job:
    """Give the job back unharmed, as when the worker shuts down: the same attempt, pending. Raises LeaseLostError."""
    job = await get(session, lease.job_id)
    return _or_lost(await _to_pending(session, job, lease.owner, job.attempt), lease)


async def expire(session: AsyncSession, job: Job) -> Job | None:
    """End the lease of a job whose worker is gone: requeued as the next attempt, or failed with `worker_lost`.

    None when somebody else was faster.
    """
    if job.lease_owner is None:
        return None
    decision = after_loss(job.attempt, job.max_attempts)
    if isinstance(decision, Requeue):
        return await _to_pending(session, job, job.lease_owner, decision.attempt)
    return await _change(
        session,
        job.id,
        Status.RUNNING,
        Status.FAILED,
        owner=job.lease_owner,
        error_code=decision.code,
        error_message=f"The worker died {job.max_attempts} times while it did this job.",
        error_hint="Look at the worker's log for the cause, then retry the job.",
    )


# ---- what the owner asks for -------------------------------------------------------------------------------------


async def request_cancel(session: AsyncSession, job_id: UUID) -> Job:
    """Cancel a pending job at once; ask the worker of a running one to stop. Asking again changes nothing.

    Raises NotFoundError, and ConflictError for a job that already ended another way.
    """
    now = utcnow()
    job = await _change(session, job_id, Status.PENDING, Status.CANCELLED, cancel_requested_at=now)
    if job is not None:
        return job
    await session.execute(
        sa.update(Job)
        .where(col(Job.id) == job_id, col(Job.status) == Status.RUNNING.value, col(Job.cancel_requested_at).is_(None))
        .values(cancel_requested_at=now)
    )
    session.expire_all()
    job = await get(session, job_id)
    if job.status_enum in (Status.COMPLETED, Status.FAILED):
        raise ConflictError(
            f"The job has already {job.status}; there is nothing to cancel.", code="job_finished", value=job.status
        )
    return job


async def retry(session: AsyncSession, job_id: UUID) -> Job:
    """A new job for the same session or asset, which then points at it.

    Raises NotFoundError, and ConflictError for a job that has not failed or been cancelled, or was retried already.
    """
    old = await get(session, job_id)
    if old.status_enum not in (Status.FAILED, Status.CANCELLED):
        raise ConflictError(
            f"Only a failed or cancelled job can be retried; this one is {shown(old.kind_enum, old.status_enum)}.",
            code="job_not_retryable",
            value=old.status,
        )
    new = Job.new(old.kind_enum, affinity=old.affinity, priority=old.priority, retry_of=old.id)
    table = SUBJECT[old.kind_enum]
    moved = await session.execute(
        sa.update(table).where(col(table.task_id) == old.id).values(task_id=new.id).returning(col(table.id))
    )
    if moved.first() is None:
        raise ConflictError(
            "This job was retried already, or what it was for is gone.", code="job_superseded", value=str(job_id)
        )
    session.add(new)
    await session.flush()
    await _mirror(session, new)
    return new


# ---- the one compare-and-set -------------------------------------------------------------------------------------

_REFRESH: dict[str, Any] = {"populate_existing": True}


def _held(lease: Lease) -> tuple[sa.ColumnElement[bool], ...]:
    return (col(Job.id) == lease.job_id, col(Job.lease_owner) == lease.owner, col(Job.status) == Status.RUNNING.value)


async def _change(
    session: AsyncSession, job_id: UUID, old: Status, new: Status, *, owner: str | None = None, **values: Any
) -> Job | None:
    """`old` -> `new` if the job is still `old` (and held by `owner`); None when it is not."""
    if new not in NEXT[old]:
        raise RuntimeError(f"a job never goes from {old} to {new}")
    if new in TERMINAL:
        values |= {"finished_at": utcnow(), "lease_owner": None, "lease_until": None}
    where = [col(Job.id) == job_id, col(Job.status) == old.value]
    if owner is not None:
        where.append(col(Job.lease_owner) == owner)
    job = await session.scalar(
        sa.update(Job).where(*where).values(status=new.value, **values).returning(Job).execution_options(**_REFRESH)
    )
    if job is not None:
        await _mirror(session, job)
    return job


async def _to_pending(session: AsyncSession, job: Job, owner: str, attempt: int) -> Job | None:
    if job.cancel_requested_at is not None:
        return await _change(session, job.id, Status.RUNNING, Status.CANCELLED, owner=owner)
    return await _change(
        session,
        job.id,
        Status.RUNNING,
        Status.PENDING,
        owner=owner,
        attempt=attempt,
        lease_owner=None,
        lease_until=None,
    )


async def _end(session: AsyncSession, lease: Lease, status: Status, **values: Any) -> Job:
    return _or_lost(await _change(session, lease.job_id, Status.RUNNING, status, owner=lease.owner, **values), lease)


def _or_lost(job: Job | None, lease: Lease) -> Job:
    if job is None:
        raise LeaseLostError(value=str(lease.job_id))
    return job


async def _mirror(session: AsyncSession, job: Job, snapshot: Snapshot | None = None) -> None:
    """Write the job's state on the row it is for, in the same transaction, so that the two can never disagree."""
    table = SUBJECT[job.kind_enum]
    values: dict[str, Any] = {"status": shown(job.kind_enum, job.status_enum), "error_message": job.error_message}
    values["completed_at"] = job.finished_at
    if table is TrainingSession:
        values |= {"started_at": job.started_at, "updated_at": utcnow()}
        if snapshot is not None:
            values |= {
                "progress": snapshot.progress,
                "current_step": snapshot.step,
                "total_steps": snapshot.total_steps,
                "current_loss": snapshot.loss,
            }
        elif job.status_enum is Status.COMPLETED:
            values |= {"progress": 100.0}
    await session.execute(sa.update(table).where(col(table.task_id) == job.id).values(**values))


def snapshot_of(job: Job) -> Snapshot:
    """What a client is shown of this job: its status from the row, the rest from its last progress."""
    status = job.status_enum
    last = Snapshot.from_dict(job.progress)
    if status in TERMINAL:
        last = last.with_changes(stage=status.value, message=status.value.capitalize(), eta_seconds=None)
    return last.with_changes(
        status=shown(job.kind_enum, status),
        progress=100.0 if status is Status.COMPLETED else last.progress,
        message=job.error_message or last.message,
        attempt=job.attempt,
        error_code=job.error_code,
        error_message=job.error_message,
        hint=job.error_hint,
    )
