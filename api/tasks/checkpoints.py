"""Training checkpoints on their way: to the storage as the trainer writes them, and back where a trainer resumes."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import chain, repeat
from uuid import UUID

import structlog

from api.db import DATABASE_ERRORS
from api.domain.checkpoint import Rule, prized, superfluous
from api.errors import EngineError, RetryableError, StorageError
from api.models import TrainingCheckpoint, TrainingSession
from api.services import checkpoints
from api.services.jobs import LeaseLostError
from api.storage.files import in_thread
from api.tasks.attempt import Attempt
from api.tasks.candidates import collect
from api.tasks.patience import PAUSES_SECONDS, patiently
from api.trainer.checkpoint import damage, newest_whole, state_files, step_of
from api.trainer.workdir import Workdir

log = structlog.get_logger(__name__)

END_SECONDS = 2.0
"""How long the end of a training waits for an upload that was cut off."""


# ---- to the storage ----------------------------------------------------------------------------------------------


class Keeper:
    """Stores the training checkpoints of one training, one after the other, beside its following: the newest first.

    A storage that does not answer is waited for as long as the training takes; what became old meanwhile is left out,
    unless the rule prizes it and the trainer has not removed it yet.
    """

    def __init__(self, attempt: Attempt, workdir: Workdir, session_id: UUID, rule: Rule) -> None:
        self._resources = attempt.resources
        self._lease = attempt.lease
        self._workdir = workdir
        self._session_id = session_id
        self._rule = rule
        self._seen: dict[int, float | None] = {}
        """The smoothed loss at each step that the trainer has announced."""
        self._newest = 0
        self._news = asyncio.Event()

    def saw(self, folders: Sequence[str], losses: Sequence[float | None]) -> None:
        """The trainer has announced these, so they are whole, and such were the smoothed losses."""
        steps = [(step, loss) for step, loss in zip(map(step_of, folders), losses, strict=True) if step]
        news = {step: loss for step, loss in steps if step not in self._seen}
        if news:
            self._seen |= news
            self._newest = max(self._seen)
            self._news.set()

    async def run(self) -> None:
        """For ever. Raises LeaseLostError."""
        await self._persistently(self._discard_unfinished)
        while True:
            await self._news.wait()
            self._news.clear()
            await self._persistently(self._store_wanted)

    async def _persistently(self, work: Callable[[], Awaitable[None]]) -> None:
        for pause in chain(PAUSES_SECONDS, repeat(PAUSES_SECONDS[-1])):
            try:
                await work()
            except (StorageError, *DATABASE_ERRORS) as exc:
                log.warning("training_checkpoint_waits", step=self._newest, seconds=pause, error=str(exc))
                await asyncio.sleep(pause)
            else:
                return

    async def _store_wanted(self) -> None:
        await self._discard_unfinished()
        tried: set[int] = set()
        while step := self._next(await self._rows(), tried):
            tried.add(step)
            await self._store(step)
            await self._discard_superfluous()
        await self._discard_superfluous()

    def _next(self, rows: Sequence[TrainingCheckpoint], tried: set[int]) -> int | None:
        """The newest step that is to be stored and is not."""
        stored = {row.step: row.loss for row in rows}
        wanted = prized(self._seen | stored, self._rule) & self._seen.keys()
        wanted |= {self._newest} if all(step < self._newest for step in stored) else set()
        return max(wanted - stored.keys() - tried, default=None)

    async def _discard_superfluous(self) -> None:
        rows = await self._rows()
        old = superfluous({row.step: row.loss for row in rows}, self._rule)
        for row in rows:
            if row.step in old:
                await self._discard(row)
        await collect(self._resources, self._session_id, self._workdir, self._newest)

    async def _store(self, step: int) -> None:
        folder = self._workdir.checkpoint(step)
        try:
            files = await in_thread(state_files, folder)
            problem = await in_thread(damage, folder, step)
            if problem is not None:
                log.warning("training_checkpoint_not_stored", step=step, reason=problem)
                return
            row = await checkpoints.store(
                self._resources.sessions,
                self._resources.storage,
                self._lease,
                self._session_id,
                step,
                files,
                loss=self._seen[step],
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
async def keeping_checkpoints(
    attempt: Attempt, workdir: Workdir, session_id: UUID, rule: Rule
) -> AsyncIterator[Keeper]:
    """While in here, what the keeper is told of is stored; it never holds up nor fails what goes on in here."""
    keeper = Keeper(attempt, workdir, session_id, rule)
    task = asyncio.create_task(keeper.run(), name=f"checkpoints-{session_id}")
    try:
        yield keeper
    finally:
        task.cancel()
        # An upload that is cut off may take longer to clean up; what it leaves has no `stored_at`, and is discarded.
        await asyncio.wait({task}, timeout=END_SECONDS)
        if task.done() and not task.cancelled() and not isinstance(ended := task.exception(), LeaseLostError):
            log.error("training_checkpoints_not_stored", exc_info=ended)


async def store_last(attempt: Attempt, workdir: Workdir, session_id: UUID) -> None:
    """Store the newest training checkpoint of a trainer that has ended, from which the training can be extended.

    The training is complete without it: a storage in trouble is waited for a while, and then an older one has to do.
    """

    async def store() -> None:
        async with attempt.resources.sessions() as session:
            rows = await checkpoints.of_session(session, session_id)
        for row in rows:
            if row.stored_at is None:
                await checkpoints.discard(attempt.resources.sessions, attempt.resources.storage, row)
        step = await in_thread(newest_whole, workdir, {})
        if step > max((row.step for row in rows if row.stored_at), default=0):
            files = await in_thread(state_files, workdir.checkpoint(step))
            sessions, storage = attempt.resources.sessions, attempt.resources.storage
            await checkpoints.store(sessions, storage, attempt.lease, session_id, step, files)

    try:
        await patiently(attempt, store)
    except (StorageError, RetryableError) as exc:
        log.warning("last_training_checkpoint_not_stored", error=exc.detail)


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


async def provide_parents(attempt: Attempt, workdir: Workdir, session: TrainingSession) -> int:
    """Have the parent's training checkpoint there that this session was extended from; its step, 0 for none to have.

    Raises RetryableError, EngineError `training_state_gone`.
    """
    if session.parent_session_id is None or session.start_step == 0:
        return 0
    async with attempt.resources.sessions() as database:
        rows = await checkpoints.stored(database, session.parent_session_id)
    row = next((row for row in rows if row.step == session.start_step), None)
    await attempt.progress(urgent=True, message=f"Fetching the training checkpoint of step {session.start_step}")
    if row is None or not await patiently(attempt, partial(_fetch, attempt, workdir, row)):
        raise EngineError(
            f"The working state of step {session.start_step} that this training was to go on from is gone.",
            code="training_state_gone",
            value=str(session.parent_session_id),
            hint="Clone the training with more steps, which begins anew.",
        )
    return session.start_step


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
