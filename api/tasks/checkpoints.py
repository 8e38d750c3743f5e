"""Training checkpoints on their way: to the storage as the trainer writes them, and back where a trainer resumes."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from itertools import chain, repeat
from uuid import UUID

import structlog

from api.db import DATABASE_ERRORS
from api.domain.checkpoint import superfluous
from api.errors import StorageError
from api.models import TrainingCheckpoint
from api.services import checkpoints
from api.services.jobs import LeaseLostError
from api.storage.files import in_thread
from api.tasks.attempt import Attempt
from api.tasks.patience import PAUSES_SECONDS, patiently
from api.trainer.checkpoint import damage, newest_whole, state_files, step_of
from api.trainer.workdir import Workdir

log = structlog.get_logger(__name__)

END_SECONDS = 2.0
"""How long the end of a training waits for an upload that was cut off."""


# ---- to the storage ----------------------------------------------------------------------------------------------


class Keeper:
    """Stores the newest training checkpoint of one training, one after the other, beside its following.

    A storage that does not answer is waited for as long as the training takes; what became old meanwhile is left out.
    """

    def __init__(self, attempt: Attempt, workdir: Workdir, session_id: UUID, kept: int) -> None:
        self._resources = attempt.resources
        self._lease = attempt.lease
        self._workdir = workdir
        self._session_id = session_id
        self._kept = kept
        self._newest = 0
        self._news = asyncio.Event()

    def saw(self, folders: Iterable[str]) -> None:
        """The trainer has announced these, so they are whole; the newest of them is to be stored."""
        newest = max(filter(None, map(step_of, folders)), default=0)
        if newest > self._newest:
            self._newest = newest
            self._news.set()

    async def run(self) -> None:
        """For ever. Raises LeaseLostError."""
        await self._persistently(self._discard_unfinished)
        while True:
            await self._news.wait()
            self._news.clear()
            await self._persistently(self._store_newest)

    async def _persistently(self, work: Callable[[], Awaitable[None]]) -> None:
        for pause in chain(PAUSES_SECONDS, repeat(PAUSES_SECONDS[-1])):
            try:
                await work()
            except (StorageError, *DATABASE_ERRORS) as exc:
                log.warning("training_checkpoint_waits", step=self._newest, seconds=pause, error=str(exc))
                await asyncio.sleep(pause)
            else:
                return

    async def _store_newest(self) -> None:
        await self._discard_unfinished()
        rows, step = await self._rows(), self._newest
        if all(row.step < step for row in rows):
            await self._store(step)
            rows = await self._rows()
        old = superfluous([row.step for row in rows], self._kept)
        for row in rows:
            if row.step in old:
                await self._discard(row)

    async def _store(self, step: int) -> None:
        folder = self._workdir.checkpoint(step)
        try:
            files = await in_thread(state_files, folder)
            problem = await in_thread(damage, folder, step)
            if problem is not None:
                log.warning("training_checkpoint_not_stored", step=step, reason=problem)
                return
            row = await checkpoints.store(
                self._resources.sessions, self._resources.storage, self._lease, self._session_id, step, files
            )
            log.info("training_checkpoint_stored", step=step, by_us=row is not None)
        except FileNotFoundError:
            await self._discard_unfinished()  # the trainer has pruned it, so it has announced a newer one, or will

    async def _discard_unfinished(self) -> None:
        """What an upload has left that did not come to its end: of an earlier attempt, or of this one."""
        async with self._resources.sessions() as session:
            rows = await checkpoints.of_session(session, self._session_id)
        for row in rows:
            if row.stored_at is None:
                await self._discard(row)

    async def _rows(self) -> list[TrainingCheckpoint]:
        async with self._resources.sessions() as session:
            return await checkpoints.stored(session, self._session_id)

    async def _discard(self, row: TrainingCheckpoint) -> None:
        await checkpoints.discard(self._resources.sessions, self._resources.storage, row)


@asynccontextmanager
async def keeping_checkpoints(attempt: Attempt, workdir: Workdir, session_id: UUID, kept: int) -> AsyncIterator[Keeper]:
    """While in here, what the keeper is told of is stored; it never holds up nor fails what goes on in here."""
    keeper = Keeper(attempt, workdir, session_id, kept)
    task = asyncio.create_task(keeper.run(), name=f"checkpoints-{session_id}")
    try:
        yield keeper
    finally:
        task.cancel()
        # An upload that is cut off may take longer to clean up; what it leaves has no `stored_at`, and is discarded.
        await asyncio.wait({task}, timeout=END_SECONDS)
        if task.done() and not task.cancelled() and not isinstance(ended := task.exception(), LeaseLostError):
            log.error("training_checkpoints_not_stored", exc_info=ended)


# ---- and back ----------------------------------------------------------------------------------------------------


async def provide_checkpoint(attempt: Attempt, workdir: Workdir, session_id: UUID) -> int:
    """Have the newest sound training checkpoint where the trainer looks for it; its step, 0 when there is none.

    The storage is asked when it has a newer one than the disk, as on a new machine. Raises RetryableError.
    """
    async with attempt.resources.sessions() as session:
        rows = await checkpoints.stored(session, session_id)
    recorded = {row.step: {file["name"]: file["sha256"] for file in row.files} for row in rows}
    found = await in_thread(newest_whole, workdir, recorded)
    for row in rows:
        if row.step <= found:
            break
        await attempt.progress(urgent=True, message=f"Fetching the training checkpoint of step {row.step}")
        if await patiently(attempt, partial(_fetch, attempt, workdir, row)):
            return row.step
        await _give_up(attempt, row)
    return found


async def _fetch(attempt: Attempt, workdir: Workdir, row: TrainingCheckpoint) -> bool:
    """Whether the files are where the trainer resumes, all as they were stored; if not, nothing of them is there."""
    await in_thread(shutil.rmtree, workdir.fetched, ignore_errors=True)
    try:
        for file in row.files:
            got = await attempt.resources.storage.get_file(file["key"], workdir.fetched / file["name"])
            if (got.size, got.sha256) != (file["size"], file["sha256"]):
                return False
    except FileNotFoundError:
        return False
    await in_thread(_put_in_place, workdir, row.step)
    return True


def _put_in_place(workdir: Workdir, step: int) -> None:
    workdir.output.mkdir(exist_ok=True)
    workdir.fetched.rename(workdir.checkpoint(step))


async def _give_up(attempt: Attempt, row: TrainingCheckpoint) -> None:
    """Not stored any more, so that the same step can be stored again; its keeper removes the files in time."""
    log.warning("stored_training_checkpoint_damaged", step=row.step)
    try:
        await checkpoints.discard(attempt.resources.sessions, attempt.resources.storage, row)
    except StorageError as exc:
        log.warning("training_checkpoint_not_discarded", step=row.step, error=exc.detail)
