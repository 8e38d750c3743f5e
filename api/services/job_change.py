"""The compare-and-set by which a job changes its status, mirrored on the row that the job is for."""

from collections.abc import Sequence
from typing import Any, cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.domain.job import NEXT, TERMINAL, Kind, Status, shown
from api.domain.progress import Snapshot
from api.domain.queueing import Place
from api.models import Captioning, GeneratedAsset, Job, ModelImport, TrainingSession
from api.models.base import utcnow
from api.services import outbox

SUBJECT: dict[Kind, type[TrainingSession] | type[GeneratedAsset] | type[ModelImport] | type[Captioning]] = {
    Kind.TRAINING: TrainingSession,
    Kind.IMAGE: GeneratedAsset,
    Kind.IMPORT: ModelImport,
    Kind.CAPTION: Captioning,
}
"""The table of the row that a job of this kind is for; that row's `task_id` is the job's id."""

REFRESH: dict[str, Any] = {"populate_existing": True, "synchronize_session": False}
"""Execution options: what an update returned replaces what the session remembers of the row, and nothing else does."""


async def change(
    session: AsyncSession, job_id: UUID, old: Status, new: Status, *conditions: sa.ColumnElement[bool], **values: Any
) -> Job | None:
    """`old` -> `new` if the job still is `old` and the conditions hold; None, with nothing changed, when not.

    A job that does not run has no lease; a job that has ended has the time of it.
    """
    job: Job | None = await session.scalar(_update(old, new, values).where(col(Job.id) == job_id, *conditions))
    if job is not None:
        subject = await mirror(session, job)
        if new in TERMINAL:
            await outbox.add(session, job, subject)
    return job


async def change_pictures(
    session: AsyncSession, job_ids: Sequence[UUID], old: Status, new: Status, **values: Any
) -> list[Job]:
    """`change` of many at once, in few statements; those that it changed."""
    jobs = (await session.scalars(_update(old, new, values).where(col(Job.id).in_(job_ids)))).all()
    if jobs:
        table = cast("sa.Table", sa.inspect(GeneratedAsset).local_table)
        rows = [{"job_id": job.id, **_mirrored(job)} for job in jobs]
        same = table.c.task_id == sa.bindparam("job_id")
        await (await session.connection()).execute(sa.update(table).where(same), rows)
    told = [job for job in jobs if job.webhook_url is not None]
    if told and new in TERMINAL:
        await _tell(session, told)
    return list(jobs)


async def _tell(session: AsyncSession, pictures: Sequence[Job]) -> None:
    of_jobs = col(GeneratedAsset.task_id).in_([job.id for job in pictures])
    found = await session.execute(sa.select(col(GeneratedAsset.task_id), col(GeneratedAsset.id)).where(of_jobs))
    assets: dict[UUID | None, UUID] = {row.task_id: row.id for row in found}
    for job in pictures:
        await outbox.add(session, job, assets.get(job.id))


def _update(old: Status, new: Status, values: dict[str, Any]) -> Any:
    if new not in NEXT[old]:
        raise RuntimeError(f"a job never goes from {old} to {new}")
    if new is not Status.RUNNING:
        values = {**values, "lease_owner": None, "lease_until": None}
    if new in TERMINAL:
        values = {**values, "finished_at": utcnow()}
    was = sa.update(Job).where(col(Job.status) == old.value)
    return was.values(status=new.value, **values).returning(Job).execution_options(**REFRESH)


async def mirror(session: AsyncSession, job: Job) -> UUID | None:
    """Write the job's state on the row it is for, in the same transaction, so that the two can never disagree.

    The id of that row; None when it is gone.
    """
    table, values = SUBJECT[job.kind_enum], _mirrored(job)
    if table is TrainingSession:
        snapshot = snapshot_of(job)
        values |= {
            "started_at": job.started_at,
            "updated_at": utcnow(),
            "progress": snapshot.progress,
            "current_step": snapshot.step,
            "current_loss": snapshot.loss,
        }
        if snapshot.total_steps:  # before the trainer has said it, the row has what was asked for
            values["total_steps"] = snapshot.total_steps
    subject: UUID | None = await session.scalar(
        sa.update(table).where(col(table.task_id) == job.id).values(**values).returning(col(table.id))
    )
    return subject


def _mirrored(job: Job) -> dict[str, Any]:
    """What the rows of every kind show of their job."""
    return {
        "status": shown(job.kind_enum, job.status_enum),
        "error_message": job.error_message,
        "completed_at": job.finished_at,
    }


def snapshot_of(job: Job, place: Place | None = None) -> Snapshot:
    """What a client is shown of this job: its status from the row, the rest from its last progress.

    `place`: where a pending job stands, when that is known.
    """
    status = job.status_enum
    last = Snapshot.from_dict(job.progress)
    if status is Status.PENDING:
        last = last.with_changes(stage="waiting", message="Waiting for its turn", eta_seconds=None)
        if place is not None:
            last = last.with_changes(
                message=place.message, queue_position=place.position, eta_seconds=place.eta_seconds
            )
    elif status in TERMINAL:
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
