"""LoRAs of training checkpoints: kept to choose from, whatever became of the training, and promoted to models."""

from collections.abc import Collection, Sequence
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased
from sqlmodel import col

from api.domain import candidate as rules
from api.domain.checkpoint import Rule
from api.errors import ConflictError, NotFoundError
from api.models import Model, TrainingCandidate, TrainingSession, UnrecordedFile
from api.services import awaited
from api.services.unrecorded import dismiss, recorded

AVAILABLE = col(TrainingCandidate.storage_path).is_not(None)
AS_IT_IS = {"synchronize_session": False}


class TakenError(Exception):
    """Somebody was faster, and this step has its candidate."""


# ---- find --------------------------------------------------------------------------------------------------------


def shown() -> sa.ColumnElement[bool]:
    """Those with a file that have no successor at their step."""
    successor = aliased(TrainingCandidate)
    newer = sa.exists().where(
        col(successor.session_id) == col(TrainingCandidate.session_id),
        col(successor.step) == col(TrainingCandidate.step),
        col(successor.superseded).is_(False),
        col(successor.storage_path).is_not(None),
    )
    return sa.and_(AVAILABLE, sa.or_(col(TrainingCandidate.superseded).is_(False), ~newer))


async def of_session(
    session: AsyncSession, session_id: UUID, steps: Collection[int] | None = None
) -> list[TrainingCandidate]:
    """One of each step, in the order of their steps; `steps`: only these."""
    query = sa.select(TrainingCandidate).where(col(TrainingCandidate.session_id) == session_id, shown())
    if steps is not None:
        query = query.where(col(TrainingCandidate.step).in_(steps))
    rows = await session.scalars(query.order_by(col(TrainingCandidate.step), col(TrainingCandidate.created_at)))
    return list({row.step: row for row in rows}.values())


async def get(session: AsyncSession, session_id: UUID, step: int) -> TrainingCandidate:
    """Raises NotFoundError `checkpoint_not_found`."""
    found = await of_session(session, session_id, [step])
    if not found:
        raise NotFoundError(
            "This training has no training checkpoint to choose at this step.",
            code="checkpoint_not_found",
            value=step,
            hint="GET /api/training/{id}/checkpoints lists those that there are.",
        )
    return found[0]


async def by_id(session: AsyncSession, candidate_id: UUID) -> TrainingCandidate:
    """Raises NotFoundError `checkpoint_not_found`."""
    row = await session.get(TrainingCandidate, candidate_id)
    if row is None or row.storage_path is None:
        raise NotFoundError(
            "There is no training checkpoint with this id.", code="checkpoint_not_found", value=str(candidate_id)
        )
    return row


async def done_steps(session: AsyncSession, session_id: UUID) -> set[int]:
    """The steps that have had their turn: what is there at them needs no look again."""
    mine = [col(TrainingCandidate.session_id) == session_id, col(TrainingCandidate.superseded).is_(False)]
    return set(await session.scalars(sa.select(col(TrainingCandidate.step)).where(*mine)))


# ---- come and go -------------------------------------------------------------------------------------------------


async def add(session: AsyncSession, row: TrainingCandidate, most: int, rule: Rule) -> None:
    """In the transaction that records its file; of more than `most` some go, the `rule`'s last. Raises TakenError."""
    # Changes nothing, and holds the session's row until the end of the transaction: one at a time.
    mine = sa.update(TrainingSession).where(col(TrainingSession.id) == row.session_id)
    await session.execute(mine.values(name=TrainingSession.name), execution_options=AS_IT_IS)
    if row.step in await done_steps(session, row.session_id):
        raise TakenError
    session.add(row)
    if row.storage_path is not None:
        await recorded(session, row.storage_path)
    await session.flush()
    have = await of_session(session, row.session_id)
    gone = rules.excess({each.step: each.loss for each in have}, most, rule)
    await remove(session, [each for each in have if each.step in gone])
    await remove(session, await _succeeded(session, row.session_id))


async def supersede(session: AsyncSession, session_id: UUID, resumed_at: int) -> None:
    """A trainer begins behind this step: what it saves at later ones takes the place of what is there."""
    later = [col(TrainingCandidate.session_id) == session_id, col(TrainingCandidate.step) > resumed_at]
    await session.execute(sa.update(TrainingCandidate).where(*later).values(superseded=True))


async def delete(session: AsyncSession, rows: Sequence[TrainingCandidate]) -> None:
    """Raises ConflictError `checkpoint_in_use` while a picture with any of them waits or runs; then all stay."""
    used = await _used(session)
    users = [row.step for row in rows if row.storage_path in used]
    if users:
        raise ConflictError(
            f"Pictures with the training checkpoint of step {users[0]} are still waited for.",
            code="checkpoint_in_use",
            value=users[0],
            hint="Wait for them, or cancel them first.",
        )
    await remove(session, rows)


async def remove(session: AsyncSession, rows: Sequence[TrainingCandidate]) -> int:
    """Their files go soon, but for those that a picture waits for, which stay; how many go.

    The file of one that was promoted is its model's, too, and goes with the last of both.
    """
    used = await _used(session) if rows else set()
    going = {row.id: row.storage_path for row in rows if row.storage_path and row.storage_path not in used}
    for row_id, key in going.items():
        await session.execute(
            sa.update(TrainingCandidate).where(col(TrainingCandidate.id) == row_id).values(storage_path=None, card={})
        )
        if key is not None and not await _is_taken_care_of(session, key):
            dismiss(session, key)
    await session.flush()
    return len(going)


async def _succeeded(session: AsyncSession, session_id: UUID) -> list[TrainingCandidate]:
    """Those that have a file, and a successor that has one."""
    query = sa.select(TrainingCandidate).where(col(TrainingCandidate.session_id) == session_id, AVAILABLE, ~shown())
    return list(await session.scalars(query))


async def _used(session: AsyncSession) -> set[str]:
    """The files that pictures wait for."""
    return {lora["storage_path"] for config in await awaited.configs(session) for lora in config.get("loras", ())}


async def _is_taken_care_of(session: AsyncSession, key: str) -> bool:
    """Whether the file is a model's, which will remove it, or is about to be removed."""
    model, going = col(Model.storage_path) == key, col(UnrecordedFile.key) == key
    return bool(await session.scalar(sa.select(sa.or_(sa.exists().where(model), sa.exists().where(going)))))
