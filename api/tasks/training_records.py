"""What is kept of a training while it is followed, beside its checkpoints: its course, its samples, at its end its log.

Nothing here holds up or fails a training. Whoever follows next begins with what is not kept yet.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from uuid import UUID

import structlog

from api.db import DATABASE_ERRORS
from api.errors import JobError, StorageError
from api.models import TrainingSession
from api.services.jobs import LeaseLostError
from api.tasks.attempt import Attempt
from api.tasks.patience import patiently
from api.tasks.training_course import CourseKeeper, keep_unfollowed
from api.tasks.training_log import store_log
from api.tasks.training_samples import store_samples
from api.tasks.training_wishes import WishTeller
from api.trainer.events import Event
from api.trainer.messages import Stage, ValidationImages
from api.trainer.workdir import Workdir

log = structlog.get_logger(__name__)

SAVE_SECONDS = 1.0
"""How old the course in the database is at most, and how late a wish is seen."""
RETRY_SECONDS = 15.0
END_SECONDS = 10.0
"""How long the end of a run waits for what is not kept yet."""


class Records:
    """Of one run."""

    def __init__(self, attempt: Attempt, workdir: Workdir, row: TrainingSession) -> None:
        self._course = CourseKeeper(attempt, workdir, row.id)
        self._wishes = WishTeller(attempt, workdir, row.id)
        self._store_samples = partial(store_samples, attempt, workdir, row)
        self._drawn = asyncio.Event()
        self._drawn.set()  # there may be some from before
        self._over = False

    def saw(self, event: Event) -> None:
        self._course.saw(event)
        self._wishes.saw(event)
        if isinstance(event.message, ValidationImages | Stage):
            self._drawn.set()

    async def save_course(self) -> None:
        await self._course.save()

    def over(self) -> None:
        """What is drawn by now is all."""
        self._over = True
        self._drawn.set()

    async def write_down(self) -> None:
        """For ever. Raises LeaseLostError."""
        while True:
            await _trying(self._course.save)
            await _trying(self._wishes.look)
            await asyncio.sleep(SAVE_SECONDS)

    async def store(self) -> None:
        """Until the run is `over`. Raises LeaseLostError."""
        while not self._over:
            await self._drawn.wait()
            self._drawn.clear()
            if not await _trying(self._store_samples):
                self._drawn.set()
                await asyncio.sleep(RETRY_SECONDS)


@asynccontextmanager
async def keeping_records(attempt: Attempt, workdir: Workdir, row: TrainingSession) -> AsyncIterator[Records]:
    """While in here, what the records are told of is kept."""
    records = Records(attempt, workdir, row)
    storing = asyncio.create_task(records.store())
    tasks = {asyncio.create_task(records.write_down()), storing}
    try:
        yield records
        await _in_time(_trying(records.save_course))
        records.over()
        await asyncio.wait({storing}, timeout=END_SECONDS)  # not cut off in the middle of one, if that can be helped
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=END_SECONDS)
        for task in tasks:
            ended = task.exception() if task.done() and not task.cancelled() else None
            if ended is not None and not isinstance(ended, LeaseLostError):
                log.error("training_records_ended", exc_info=ended)


async def keep_all(attempt: Attempt, workdir: Workdir, row: TrainingSession) -> None:
    """Before the trainer's files are removed, what of them is to stay; trouble that lasts costs that and no more.

    Raises LeaseLostError.
    """
    await keep_unfollowed(attempt, workdir, row.id)
    for work in (partial(store_samples, attempt, workdir, row), partial(store_log, attempt, workdir, row.id)):
        try:
            await patiently(attempt, work)
        except JobError as exc:
            log.error("training_record_lost", error=exc.detail)


async def keep_log(attempt: Attempt, workdir: Workdir, session_id: UUID) -> None:
    """Of a run that did not succeed; its owner waits for the end, so not for long."""
    await _in_time(_trying(partial(store_log, attempt, workdir, session_id)))


async def _in_time(work: Awaitable[object]) -> None:
    try:
        async with asyncio.timeout(END_SECONDS):
            await work
    except TimeoutError:
        log.warning("training_records_late", seconds=END_SECONDS)


async def _trying(work: Callable[[], Awaitable[None]]) -> bool:
    """Whether it worked; what storage or database did not take is tried again. Raises LeaseLostError."""
    try:
        await work()
    except (StorageError, *DATABASE_ERRORS) as exc:
        log.warning("training_record_waits", error=str(exc))
        return False
    return True
