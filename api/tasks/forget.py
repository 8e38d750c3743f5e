"""What trainings that have ended leave behind: nothing once it is of no use, so that no disk grows for ever."""

import asyncio
import shutil
from collections.abc import Collection, Sequence
from contextlib import suppress
from datetime import timedelta
from uuid import UUID

import sqlalchemy as sa
import structlog
from sqlmodel import col

from api.db import DATABASE_ERRORS
from api.domain.checkpoint import is_outlived
from api.domain.job import TERMINAL, Status
from api.errors import StorageError
from api.models import TrainingCheckpoint, TrainingSession
from api.models.base import utcnow
from api.resources import Resources
from api.services import checkpoints, continuing
from api.services.training_folder import workdirs
from api.settings import Settings
from api.storage.files import in_thread
from api.tasks.candidates import collect
from api.trainer import process
from api.trainer.workdir import Workdir

log = structlog.get_logger(__name__)

INTERVAL_SECONDS = 60.0
ENDED = tuple(status.value for status in TERMINAL)


async def forget_forever(resources: Resources) -> None:
    while True:
        try:
            await forget(resources)
        except (StorageError, *DATABASE_ERRORS) as exc:
            log.warning("trainings_not_forgotten", error=str(exc))
        await asyncio.sleep(INTERVAL_SECONDS)


async def forget(resources: Resources) -> None:
    """Remove the working state of every session that has outlived it, and what uploads cut off have left.

    Logs and messages stay, and the LoRA of each training checkpoint, as a candidate; a completed session needs nothing
    on this disk. Raises StorageError.
    """
    keep = timedelta(days=resources.settings.masuka_keep_failed_days)
    keep_completed = timedelta(days=resources.settings.masuka_keep_completed_days)
    here = await asyncio.to_thread(_with_state, resources.settings)
    for row in await _ended(resources, here.keys()):
        workdir = here.get(row.id)
        if workdir is not None and process.find(workdir) is not None:
            continue
        await collect(resources, row.id, workdir)
        if is_outlived(row.status, row.completed_at, now=utcnow(), keep=keep, keep_completed=keep_completed):
            await _give_up(resources, row, workdir, keep)
        elif row.status == Status.COMPLETED and workdir is not None:
            await in_thread(_forget_here, workdir)
    await _discard_unfinished(resources)


async def _ended(resources: Resources, here: Collection[UUID]) -> Sequence[TrainingSession]:
    """The sessions that have ended and still have working state, on this machine or in storage."""
    stored = sa.select(col(TrainingCheckpoint.session_id))
    found = col(TrainingSession.id).in_(stored) | col(TrainingSession.id).in_(here)
    query = sa.select(TrainingSession).where(col(TrainingSession.status).in_(ENDED), found)
    async with resources.sessions() as session:
        return (await session.scalars(query)).all()


async def _give_up(resources: Resources, row: TrainingSession, workdir: Workdir | None, keep: timedelta) -> None:
    """From here on nothing of the session is relied upon.

    A retry, or another session that goes on from it, comes before that or after it, never in between.
    """
    unchanged = sa.update(TrainingSession).where(
        col(TrainingSession.id) == row.id,
        col(TrainingSession.status) == row.status,
        col(TrainingSession.completed_at) == row.completed_at,
    )
    async with resources.sessions.begin() as session:
        # Changes nothing, and holds the row until the end of the transaction.
        held = await session.scalar(unchanged.values(status=row.status).returning(col(TrainingSession.id)))
        if held is None or await continuing.is_awaited(session, row.id, keep):
            return
        await checkpoints.unmark(session, row.id)
        if workdir is not None:
            await in_thread(_put_aside, workdir)
    if workdir is not None:
        await in_thread(_remove_given_up, workdir)
    log.info("training_forgotten", session_id=str(row.id), status=row.status)


async def _discard_unfinished(resources: Resources) -> None:
    """Of sessions that have ended: where one goes on, its own attempt does this."""
    unfinished = (
        sa.select(TrainingCheckpoint)
        .join(TrainingSession, col(TrainingSession.id) == col(TrainingCheckpoint.session_id))
        .where(col(TrainingSession.status).in_(ENDED), col(TrainingCheckpoint.stored_at).is_(None))
    )
    async with resources.sessions() as session:
        rows = (await session.scalars(unfinished)).all()
    for row in rows:
        await checkpoints.discard(resources.sessions, resources.storage, row)


# ---- on the disk -------------------------------------------------------------------------------------------------


def _with_state(settings: Settings) -> dict[UUID, Workdir]:
    """The work folders with anything to forget; what a crash kept from being removed is removed now."""
    found = {}
    for workdir in workdirs(settings):
        _remove_given_up(workdir)
        if any(path.exists() for path in workdir.working_state):
            with suppress(ValueError):  # not ours: our folders are named by ids
                found[UUID(workdir.root.name)] = workdir
    return found


def _forget_here(workdir: Workdir) -> None:
    _put_aside(workdir)
    _remove_given_up(workdir)


def _put_aside(workdir: Workdir) -> None:
    """At once, however many files there are."""
    workdir.given_up.mkdir()
    for path in workdir.working_state:
        if path.exists():
            path.rename(workdir.given_up / path.name)


def _remove_given_up(workdir: Workdir) -> None:
    shutil.rmtree(workdir.given_up, ignore_errors=True)
