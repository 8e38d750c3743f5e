"""What a running training is asked for: a training checkpoint now, samples now.

The wish is a time on the session's row, which its worker sees wherever it is; it goes away once it is fulfilled, so no
crash loses it, and asking again while it stands changes nothing.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.domain.trainer_version import FIRST_THAT_TAKES_WISHES, takes_wishes
from api.errors import ConflictError
from api.models import TrainingSession
from api.models.base import utcnow
from api.services import trainings
from api.services.jobs import Lease, require_held


class Wish(StrEnum):
    CHECKPOINT = "checkpoint"
    SAMPLE = "sample"

    @property
    def column(self) -> Any:
        return col(TrainingSession.checkpoint_asked_at if self is Wish.CHECKPOINT else TrainingSession.sample_asked_at)


async def ask(session: AsyncSession, session_id: UUID, wish: Wish) -> datetime:
    """Since when this is asked for. Raises NotFoundError; ConflictError with the reason why nobody can do it."""
    row = await trainings.get(session, session_id)
    _require_possible(row, wish)
    asked = (
        sa.update(TrainingSession)
        .where(col(TrainingSession.id) == session_id, col(TrainingSession.status) == "training")
        .values({wish.column.key: sa.func.coalesce(wish.column, utcnow())})
        .returning(wish.column)
        .execution_options(synchronize_session=False)
    )
    since: datetime | None = await session.scalar(asked)
    if since is None:  # it has ended just now
        await session.refresh(row)
        raise _not_running(row)
    return since


def _require_possible(row: TrainingSession, wish: Wish) -> None:
    if row.status != "training":
        raise _not_running(row)
    if row.trainer_version is None:
        raise ConflictError(
            "The trainer of this session has not been started yet.",
            code="training_not_started",
            value=row.status,
            hint="Ask again once the progress stream tells of steps.",
        )
    if not takes_wishes(row.trainer_version):
        raise ConflictError(
            f"SimpleTuner {row.trainer_version} trains this session, and cannot be asked for a {wish} while it runs.",
            code="not_supported_by_trainer",
            value=row.trainer_version,
            hint=f"SimpleTuner {FIRST_THAT_TAKES_WISHES} and later can; it needs Python 3.12. With this one, choose "
            "`checkpoint_interval`: each training checkpoint comes with samples.",
        )
    if wish is Wish.SAMPLE and not row.config.get("sample_prompts"):
        raise ConflictError(
            "This session has no sample prompts.",
            code="no_sample_prompts",
            value=str(row.id),
            hint="Name `sample_prompts` when a training is started.",
        )


def _not_running(row: TrainingSession) -> ConflictError:
    return ConflictError(
        f"This session is {row.status}; only one that is training can be asked for this.",
        code="session_not_running",
        value=row.status,
    )


# ---- by the worker that has the training -------------------------------------------------------------------------


async def standing(session: AsyncSession, session_id: UUID) -> dict[Wish, datetime]:
    """What is asked for, and since when."""
    row = (await session.execute(sa.select(*(wish.column for wish in Wish)).where(_is(session_id)))).one()
    return {wish: since for wish, since in zip(Wish, row, strict=True) if since is not None}


async def fulfil(session: AsyncSession, lease: Lease, session_id: UUID, wish: Wish, since: datetime) -> None:
    """That wish, and none that came later. Raises LeaseLostError."""
    await require_held(session, lease)
    done = sa.update(TrainingSession).where(_is(session_id), wish.column == since)
    await session.execute(done.values({wish.column.key: None}).execution_options(synchronize_session=False))


async def tell_version(session: AsyncSession, lease: Lease, session_id: UUID, version: str) -> None:
    """Which trainer is started for the session. Raises LeaseLostError."""
    await require_held(session, lease)
    told = sa.update(TrainingSession).where(_is(session_id)).values(trainer_version=version)
    await session.execute(told.execution_options(synchronize_session=False))


def _is(session_id: UUID) -> sa.ColumnElement[bool]:
    return col(TrainingSession.id) == session_id
