"""Training checkpoints in storage. The row comes before the first file and goes after the last.

So a crash at any point leaves a row that names every file there may be, and that says (`stored_at`) whether they are
all there: what is not stored is removed by the next attempt at the session, or with its end.
"""

from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.db import Sessions
from api.models import TrainingCheckpoint
from api.models.base import utcnow
from api.services import jobs
from api.services.jobs import Lease
from api.storage import Storage, StoredFile


async def of_session(session: AsyncSession, session_id: UUID) -> list[TrainingCheckpoint]:
    """All rows, newest first; those without `stored_at` are not to be relied upon."""
    query = sa.select(TrainingCheckpoint).where(col(TrainingCheckpoint.session_id) == session_id)
    return list((await session.scalars(query.order_by(col(TrainingCheckpoint.step).desc()))).all())


async def stored(session: AsyncSession, session_id: UUID) -> list[TrainingCheckpoint]:
    """Those whose every file was read back from the storage, newest first."""
    return [row for row in await of_session(session, session_id) if row.stored_at is not None]


async def store(
    sessions: Sessions,
    storage: Storage,
    lease: Lease,
    session_id: UUID,
    step: int,
    files: Sequence[Path],
    *,
    loss: float | None = None,
) -> TrainingCheckpoint | None:
    """Store these files as the training checkpoint of `step`, where the smoothed loss was `loss`.

    None when somebody took the row away meanwhile.

    Raises StorageError or FileNotFoundError (a file is gone), which leave the row for `discard`; LeaseLostError.
    """
    row = TrainingCheckpoint(session_id=session_id, step=step, loss=loss)
    row.files = [{"name": path.name, "key": _key(row, path.name)} for path in files]
    async with sessions.begin() as session:
        await jobs.require_held(session, lease)
        session.add(row)
    kept = [await storage.put_file(_key(row, path.name), path) for path in files]
    async with sessions.begin() as session:
        await jobs.require_held(session, lease)
        marked = await _mark_stored(session, row, kept)
    if marked is None:
        await _delete_files(storage, row)
    return marked


def folder_key(session_id: UUID) -> str:
    """Below it are the stored files of all training checkpoints of this session."""
    return f"trainings/{session_id}"


def _key(row: TrainingCheckpoint, name: str) -> str:
    # With the row's id no other upload of this step, whoever's it is, can ever meet these files.
    return f"{folder_key(row.session_id)}/checkpoint-{row.step:06d}-{row.id.hex[:8]}/{name.lower().lstrip('.')}"


async def _mark_stored(
    session: AsyncSession, row: TrainingCheckpoint, kept: Sequence[StoredFile]
) -> TrainingCheckpoint | None:
    files = [
        {"name": file["name"], "key": put.key, "size": put.size, "sha256": put.sha256}
        for file, put in zip(row.files, kept, strict=True)
    ]
    marked: TrainingCheckpoint | None = await session.scalar(
        sa.update(TrainingCheckpoint)
        .where(col(TrainingCheckpoint.id) == row.id)
        .values(files=files, size_bytes=sum(put.size for put in kept), stored_at=utcnow())
        .returning(TrainingCheckpoint)
    )
    return marked


async def unmark(session: AsyncSession, session_id: UUID, *, keep_newest: bool = False) -> None:
    """From here on nothing stored of this session is relied upon, but the newest if that is kept, to extend it."""
    mine = col(TrainingCheckpoint.session_id) == session_id
    kept = [row.step for row in (await stored(session, session_id))[:1]] if keep_newest else []
    await session.execute(
        sa.update(TrainingCheckpoint).where(mine, col(TrainingCheckpoint.step).not_in(kept)).values(stored_at=None)
    )


async def discard(sessions: Sessions, storage: Storage, row: TrainingCheckpoint) -> None:
    """Remove the files and then the row; repeating it finishes the job. Raises StorageError."""
    mine = col(TrainingCheckpoint.id) == row.id
    async with sessions.begin() as session:
        await session.execute(sa.update(TrainingCheckpoint).where(mine).values(stored_at=None))
    await _delete_files(storage, row)
    async with sessions.begin() as session:
        await session.execute(sa.delete(TrainingCheckpoint).where(mine))


async def _delete_files(storage: Storage, row: TrainingCheckpoint) -> None:
    for file in row.files:
        await storage.delete(file["key"])
