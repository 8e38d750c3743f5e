"""The order in which pending jobs have their turn: one for whoever claims and for whoever tells the waiting."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, cast
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from api.domain.job import AFFINITY_MAX_WAIT_SECONDS, Kind, Queue, Status
from api.models import Job
from api.models.base import utcnow

_CREATED = cast("sa.Table", sa.inspect(Job).local_table).c.created_at
EXCLUSIVE = [kind.value for kind in Kind if kind.exclusive]


@dataclass(frozen=True, slots=True)
class Turn:
    """What the order depends on besides the jobs."""

    affinity: str | None = None
    """Of the job before: another of the same costs no switch of LoRAs."""
    shares_with_training: bool = False
    """A training goes on beside which pictures may be drawn; the next training cannot start, so it holds up nobody."""
    training_left: datetime | None = None
    """When a training last left the GPU: it is completed only once its LoRA is stored."""


@dataclass(frozen=True, slots=True)
class Pending:
    id: UUID
    kind: Kind


async def next_pending(session: AsyncSession, queue: Queue, turn: Turn) -> Pending | None:
    """Whose turn it is. Whoever cannot admit that one takes nothing, so that small jobs cannot starve a big one."""
    query = _first(queue, turn.shares_with_training, bool(turn.affinity), turn.training_left is not None)
    values = {"affinity": turn.affinity, "left": turn.training_left, "overdue": _overdue()}
    best = (await session.execute(query, values)).first()
    return None if best is None else Pending(best.id, Kind(best.kind))


@lru_cache
def _first(queue: Queue, shares: bool, affine: bool, left: bool) -> sa.Select[UUID, str]:
    """Made once: to make it anew costs more than to run it."""
    affinity = sa.bindparam("affinity", type_=sa.String) if affine else None
    training_left = sa.bindparam("left", type_=_CREATED.type) if left else None
    order = _order(queue, shares, affinity, training_left, sa.bindparam("overdue", type_=_CREATED.type))
    return sa.select(col(Job.id), col(Job.kind)).where(*pending(queue)).order_by(*order).limit(1)


def pending(queue: Queue) -> tuple[sa.ColumnElement[bool], ...]:
    return col(Job.queue) == queue.value, col(Job.status) == Status.PENDING.value


def in_turn(queue: Queue, turn: Turn) -> list[Any]:
    """Interrupted trainings, whose trainer may still hold the GPU, then by priority, fairness, affinity and age.

    Fairness: the pictures that waited when a training ended go before the next training. Each training lets through
    only those that were there by then, so neither kind can starve the other.
    """
    return _order(queue, turn.shares_with_training, turn.affinity or None, turn.training_left, _overdue())


def _overdue() -> datetime:
    """What was asked for before it goes first, whatever a switch costs."""
    return utcnow() - timedelta(seconds=AFFINITY_MAX_WAIT_SECONDS)


def _order(queue: Queue, shares: bool, affinity: Any, training_left: Any, overdue: Any) -> list[Any]:
    """Each of the last three is a value or stands for one; the first two of them may be None."""
    exclusive = col(Job.kind).in_(EXCLUSIVE)
    interrupted = sa.and_(exclusive, col(Job.started_at).is_not(None))
    before_end = [col(Job.created_at) < end for end in (_training_ended(queue), training_left) if end is not None]
    waited = sa.and_(sa.not_(exclusive), sa.or_(*before_end))
    switch = sa.case((col(Job.created_at) < overdue, 0), (col(Job.affinity) == affinity, 1), else_=2)
    return [
        *([sa.case((exclusive, 1), else_=0)] if shares else []),
        sa.case((interrupted, 0), else_=1),
        col(Job.priority).desc(),
        sa.case((waited, 0), else_=1),
        *([] if affinity is None else [switch]),
        col(Job.created_at),
        col(Job.id),
    ]


def _training_ended(queue: Queue) -> sa.ScalarSelect[Any]:
    """When the last training ended that had begun; NULL when there was none."""
    ended = aliased(Job)
    return (
        sa.select(col(ended.finished_at))
        .where(
            col(ended.kind).in_(EXCLUSIVE),
            col(ended.queue) == queue.value,
            col(ended.finished_at).is_not(None),
            col(ended.started_at).is_not(None),
        )
        .order_by(col(ended.finished_at).desc())
        .limit(1)
        .scalar_subquery()
    )
