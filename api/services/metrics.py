"""The course of a training in the database, so that it is there on every machine and when the trainer's own is gone.

It is kept in rows of a fixed range of steps: whoever writes the same steps again, as after a crash, changes nothing.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import astuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.domain.curve import Course, Point, chunk_of
from api.models import TrainingMetrics


async def load(session: AsyncSession, session_id: UUID) -> Course:
    rows = await _rows(session, session_id)
    points = [Point(*values) for row in rows for values in row.points]
    return Course(points, [step for row in rows for step in row.checkpoints])


async def add(session: AsyncSession, session_id: UUID, news: Course) -> None:
    """Keep what is new; of a step that is told again the newest."""
    points, checkpoints = _by_chunk(news)
    touched = points.keys() | checkpoints.keys()
    kept = {row.chunk: row for row in await _rows(session, session_id, touched)}
    for chunk in touched:
        row = kept.get(chunk) or TrainingMetrics(session_id=session_id, chunk=chunk)
        steps = {values[0]: values for values in row.points}
        steps |= {point.step: list(astuple(point)) for point in points[chunk]}
        row.points = [steps[step] for step in sorted(steps)]
        row.checkpoints = sorted({*row.checkpoints, *checkpoints[chunk]})
        session.add(row)
    await session.flush()


async def forget_after(session: AsyncSession, session_id: UUID, step: int, *, before: float) -> None:
    """A run that began at `before` (seconds since the epoch) goes on from `step`: what earlier ones did after that is
    done again, and is no part of the course.
    """
    for row in await _rows(session, session_id):
        kept = [values for values in row.points if values[0] <= step or values[1] >= before]
        if len(kept) < len(row.points):
            steps = {values[0] for values in kept}
            row.points = kept
            row.checkpoints = [saved for saved in row.checkpoints if saved <= step or saved in steps]
    await session.flush()


async def last_step(session: AsyncSession, session_id: UUID) -> int:
    """The newest that is kept; 0 for none."""
    return max((values[0] for row in await _rows(session, session_id) for values in row.points[-1:]), default=0)


async def _rows(session: AsyncSession, session_id: UUID, chunks: Iterable[int] | None = None) -> list[TrainingMetrics]:
    query = sa.select(TrainingMetrics).where(col(TrainingMetrics.session_id) == session_id)
    if chunks is not None:
        query = query.where(col(TrainingMetrics.chunk).in_(list(chunks)))
    return list((await session.scalars(query.order_by(col(TrainingMetrics.chunk)))).all())


def _by_chunk(news: Course) -> tuple[dict[int, list[Point]], dict[int, list[int]]]:
    points: dict[int, list[Point]] = defaultdict(list)
    checkpoints: dict[int, list[int]] = defaultdict(list)
    for point in news.points:
        points[chunk_of(point.step)].append(point)
    for step in news.checkpoints:
        checkpoints[chunk_of(step)].append(step)
    return points, checkpoints
