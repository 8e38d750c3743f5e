"""The only writer of a job's status: claims, leases, ends, and what the owner asks for.

Every change is one compare-and-set (`job_change`), so an attempt that lost its lease can change nothing.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.domain.job import (
    LEASE_SECONDS,
    Decision,
    Kind,
    Requeue,
    Status,
    after_loss,
    after_retryable,
    shown,
)
from api.domain.progress import Snapshot, cleaned
from api.errors import ConflictError, JobError, MasukaError, NotFoundError
from api.models import Captioning, GeneratedAsset, Job, TrainingSession
from api.models.base import utcnow
from api.services.job_change import REFRESH, SUBJECT, change, change_pictures, mirror
from api.services.job_change import snapshot_of as snapshot_of


class LeaseLostError(MasukaError):
    """This attempt no longer holds its job, so it may change nothing."""

    default_code = "lease_lost"


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to change one running job; void once another attempt has claimed it."""

    job_id: UUID
    owner: str


async def get(session: AsyncSession, job_id: UUID) -> Job:
    """The job as it is now. Raises NotFoundError."""
    job = await session.get(Job, job_id, populate_existing=True)
    if job is None:
        raise NotFoundError("There is no job with this id.", code="job_not_found", value=str(job_id))
    return job


# ---- claim and hold ----------------------------------------------------------------------------------------------


async def claim(session: AsyncSession, job_id: UUID, owner: str) -> Job | None:
    """Take a pending job; None when another worker, or a cancel, was faster."""
    now = utcnow()
    return await change(
        session,
        job_id,
        Status.PENDING,
        Status.RUNNING,
        lease_owner=owner,
        lease_until=now + timedelta(seconds=LEASE_SECONDS),
        started_at=sa.func.coalesce(col(Job.started_at), now),
    )


async def base_model_of(session: AsyncSession, job_id: UUID, kind: Kind) -> str | None:
    """The base model that a job needs, or its captioner; None when what it was for is gone."""
    if kind is Kind.CAPTION:
        of_job = col(Captioning.task_id) == job_id
        captioner: str | None = await session.scalar(sa.select(col(Captioning.captioner)).where(of_job))
        return captioner
    column = TrainingSession.config if kind is Kind.TRAINING else GeneratedAsset.generation_config
    config: dict[str, Any] | None = await session.scalar(
        sa.select(col(column)).where(col(SUBJECT[kind].task_id) == job_id)
    )
    return None if config is None else config.get("base_model")


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


async def require_held(session: AsyncSession, lease: Lease) -> None:
    """Raise LeaseLostError if another attempt may have taken over: then this one may not write anything either."""
    held = sa.select(col(Job.id)).where(
        col(Job.id) == lease.job_id, col(Job.status) == Status.RUNNING.value, _held_by(lease.owner)
    )
    if await session.scalar(held) is None:
        raise LeaseLostError(value=str(lease.job_id))


async def save_progress(session: AsyncSession, lease: Lease, snapshot: Snapshot) -> None:
    """Keep the last snapshot on the job and, for a training, on its session.

    Raises LeaseLostError.
    """
    job = await session.scalar(
        sa.update(Job)
        .where(col(Job.id) == lease.job_id, col(Job.status) == Status.RUNNING.value, _held_by(lease.owner))
        .values(progress=snapshot.to_dict())
        .returning(Job)
        .execution_options(**REFRESH)
    )
    held = _or_lost(job, lease)
    if held.kind_enum is Kind.TRAINING:  # the rows of the others show no more than the status, which is the same
        await mirror(session, held)


# ---- how an attempt ends -----------------------------------------------------------------------------------------


async def complete(session: AsyncSession, lease: Lease, snapshot: Snapshot | None = None) -> Job:
    """The proof is in hand: mark the job completed, with its last snapshot.

    Raises LeaseLostError; the caller's transaction must then be rolled back.
    """
    last = {} if snapshot is None else {"progress": snapshot.to_dict()}
    return await _end(session, lease, Status.COMPLETED, **last)


async def cancel(session: AsyncSession, lease: Lease) -> Job:
    """The owner wished it and the work has stopped. Raises LeaseLostError."""
    return await _end(session, lease, Status.CANCELLED)


async def fail(session: AsyncSession, lease: Lease, error: MasukaError, *, retryable: bool = False) -> Job:
    """End the attempt with an error: back to pending if another attempt may do better, else failed.

    Raises LeaseLostError.
    """
    about = {
        "error_code": error.code,
        "error_message": cleaned(error.detail),
        "error_hint": cleaned(error.hint),
        "log_tail": cleaned(error.log_tail) if isinstance(error, JobError) else None,
    }
    if not retryable:
        return await _end(session, lease, Status.FAILED, **about)
    job = await get(session, lease.job_id)
    decision = after_retryable(job.attempt, job.max_attempts, code=error.code)
    return _or_lost(await _decided(session, job.id, decision, about, _held_by(lease.owner)), lease)


async def release(session: AsyncSession, lease: Lease) -> Job:
    """Give the job back unharmed, as when the worker shuts down: the same attempt, pending. Raises LeaseLostError."""
    return _or_lost(await _without_result(session, lease.job_id, Status.PENDING, _held_by(lease.owner)), lease)


async def expire(session: AsyncSession, job: Job) -> Job | None:
    """End the lease of a job whose worker is gone: requeued as the next attempt, or failed with `worker_lost`.

    `job` is the row as the caller judged it; None when it has changed since: renewed, ended, or expired by another.
    """
    if job.lease_owner is None:
        return None
    about = {
        "error_message": f"The worker died {job.max_attempts} times while it did this job.",
        "error_hint": "Look at the worker's log for the cause, then retry the job.",
    }
    decision = after_loss(job.attempt, job.max_attempts)
    not_renewed = col(Job.lease_until) == job.lease_until
    return await _decided(session, job.id, decision, about, _held_by(job.lease_owner), not_renewed)


# ---- what the owner asks for -------------------------------------------------------------------------------------


async def request_cancel(session: AsyncSession, job_id: UUID) -> Job:
    """Cancel a pending job at once; ask the worker of a running one to stop. Asking again changes nothing.

    Raises NotFoundError, and ConflictError for a job that already ended another way.
    """
    now = utcnow()
    while True:
        job = await change(session, job_id, Status.PENDING, Status.CANCELLED, cancel_requested_at=now)
        if job is not None:
            return job
        asked: Job | None = await session.scalar(_ask_to_stop(now).where(col(Job.id) == job_id))
        if asked is not None:
            return asked
        job = await get(session, job_id)
        if job.status_enum is Status.CANCELLED:
            return job
        if job.status_enum is not Status.PENDING:  # else its worker gave it back between the two tries
            raise ConflictError(
                f"The job has already {job.status}; there is nothing to cancel.", code="job_finished", value=job.status
            )


async def request_cancel_of(session: AsyncSession, picture_jobs: Sequence[UUID]) -> list[Job]:
    """The same for many pictures in a few statements: those that it changed; what has ended stays as it is."""
    now = utcnow()
    alive = (Status.PENDING.value, Status.RUNNING.value)
    locked = sa.select(col(Job.id)).where(col(Job.id).in_(picture_jobs), col(Job.status).in_(alive))
    # In one order, so that two such wishes do not wait for each other; SQLite locks with the first update.
    ids = (await session.scalars(locked.order_by(col(Job.id)).with_for_update())).all()
    cancelled = await change_pictures(session, ids, Status.PENDING, Status.CANCELLED, cancel_requested_at=now)
    asked = await session.scalars(_ask_to_stop(now).where(col(Job.id).in_(ids)))
    return [*cancelled, *asked]


def _ask_to_stop(now: datetime) -> Any:
    running = sa.update(Job).where(col(Job.status) == Status.RUNNING.value)
    wish = running.values(cancel_requested_at=sa.func.coalesce(col(Job.cancel_requested_at), now))
    return wish.returning(Job).execution_options(**REFRESH)


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
    new = Job.new(
        old.kind_enum, affinity=old.affinity, priority=old.priority, webhook_url=old.webhook_url, retry_of=old.id
    )
    table = SUBJECT[old.kind_enum]
    its = [col(table.task_id) == old.id]
    its += [col(table.deleted_at).is_(None)] if table is GeneratedAsset else []
    moved = await session.execute(sa.update(table).where(*its).values(task_id=new.id).returning(col(table.id)))
    if moved.first() is None:
        raise ConflictError(
            "This job was retried already, or what it was for is gone.", code="job_superseded", value=str(job_id)
        )
    session.add(new)
    await session.flush()
    await mirror(session, new)
    return new


async def add_done(session: AsyncSession, asset: GeneratedAsset) -> None:
    """A completed job for a picture that was made without one, so that it has what every picture has.

    It never began, so no pace is learnt from it.
    """
    job = Job.new(Kind.IMAGE)
    job.status, job.finished_at, asset.task_id = Status.COMPLETED.value, utcnow(), job.id
    session.add_all((job, asset))
    await session.flush()
    await mirror(session, job)


# ---- ends of an attempt ------------------------------------------------------------------------------------------


def _held_by(owner: str) -> sa.ColumnElement[bool]:
    return col(Job.lease_owner) == owner


async def _end(session: AsyncSession, lease: Lease, status: Status, **values: Any) -> Job:
    job = await change(session, lease.job_id, Status.RUNNING, status, _held_by(lease.owner), **values)
    return _or_lost(job, lease)


async def _decided(
    session: AsyncSession, job_id: UUID, decision: Decision, about: dict[str, Any], *conditions: sa.ColumnElement[bool]
) -> Job | None:
    """Carry out what the domain decided; `about` is the error of a job that is given up."""
    if isinstance(decision, Requeue):
        return await _without_result(session, job_id, Status.PENDING, *conditions, attempt=decision.attempt)
    values = {**about, "error_code": decision.code}
    return await _without_result(session, job_id, Status.FAILED, *conditions, **values)


async def _without_result(
    session: AsyncSession, job_id: UUID, new: Status, *conditions: sa.ColumnElement[bool], **values: Any
) -> Job | None:
    """Running -> `new`, or cancelled if the owner has asked for that: the wish wins over any further attempt.

    Both tries look at the wish in the update itself, so one that arrives in between is not lost.
    """
    wish = col(Job.cancel_requested_at)
    unasked = await change(session, job_id, Status.RUNNING, new, *conditions, wish.is_(None), **values)
    return unasked or await change(session, job_id, Status.RUNNING, Status.CANCELLED, *conditions, wish.is_not(None))


def _or_lost(job: Job | None, lease: Lease) -> Job:
    if job is None:
        raise LeaseLostError(value=str(lease.job_id))
    return job
