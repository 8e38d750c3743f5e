"""Batches: how far their pictures are, and the cancel of the whole."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.domain.batch import ENDED, Member, counts_of
from api.domain.job import Status
from api.errors import ConflictError, NotFoundError
from api.models import Batch, GeneratedAsset, Job
from api.services import jobs


async def get(session: AsyncSession, batch_id: UUID) -> Batch:
    """Raises NotFoundError `batch_not_found`."""
    batch = await session.get(Batch, batch_id)
    if batch is None:
        raise NotFoundError("There is no batch with this id.", code="batch_not_found", value=str(batch_id))
    return batch


async def assets(session: AsyncSession, batch_id: UUID) -> Sequence[GeneratedAsset]:
    """Its pictures as they are now, in the order in which they are drawn; deleted ones are not among them."""
    query = sa.select(GeneratedAsset).where(*_of(batch_id)).order_by(*_in_order())
    return (await session.scalars(query.execution_options(populate_existing=True))).all()


async def members(session: AsyncSession, batch_id: UUID) -> list[Member]:
    """The same, with no more than a stream tells of each."""
    running = sa.and_(col(Job.id) == col(GeneratedAsset.task_id), col(Job.status) == Status.RUNNING.value)
    query = (
        sa.select(col(GeneratedAsset.id), col(GeneratedAsset.task_id), col(GeneratedAsset.status), col(Job.progress))
        .outerjoin(Job, running)
        .where(*_of(batch_id))
        .order_by(*_in_order())
    )
    rows = (await session.execute(query)).all()
    return [Member(row.id, row.task_id, row.status, _progress(row.status, row.progress)) for row in rows]


def _progress(status: str, last: dict[str, Any] | None) -> float:
    return 100.0 if status in ENDED else float((last or {}).get("progress", 0.0))


async def counts(session: AsyncSession, batch_ids: Sequence[UUID]) -> dict[UUID, dict[str, int]]:
    """How many pictures of each batch have each status."""
    query = (
        sa.select(col(GeneratedAsset.batch_id), col(GeneratedAsset.status), sa.func.count())
        .where(col(GeneratedAsset.batch_id).in_(batch_ids), col(GeneratedAsset.deleted_at).is_(None))
        .group_by(col(GeneratedAsset.batch_id), col(GeneratedAsset.status))
    )
    found: dict[UUID, dict[str, int]] = {batch_id: counts_of([]) for batch_id in batch_ids}
    for batch_id, status, count in await session.execute(query):
        if batch_id is not None:
            found[batch_id][status] = count
    return found


async def cancel(session: AsyncSession, batch_id: UUID) -> list[Job]:
    """Cancel what waits and ask what runs to stop; the jobs that this changed. What is done stays.

    Raises NotFoundError, and ConflictError `batch_finished` for one that has ended another way.
    """
    await get(session, batch_id)
    now = await members(session, batch_id)
    changed = await jobs.request_cancel_of(session, [member.task_id for member in now])
    if not changed and not any(member.status == Status.CANCELLED.value for member in now):
        raise ConflictError(
            "All pictures of this batch have ended; there is nothing to cancel.",
            code="batch_finished",
            value=str(batch_id),
        )
    return changed


def _of(batch_id: UUID) -> tuple[sa.ColumnElement[bool], ...]:
    return col(GeneratedAsset.batch_id) == batch_id, col(GeneratedAsset.deleted_at).is_(None)


def _in_order() -> tuple[Any, ...]:
    return col(GeneratedAsset.created_at), col(GeneratedAsset.id)
