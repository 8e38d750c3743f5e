"""Jobs that do what the test says, and a worker's duties around them."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.progress import job_stream
from api.resources import Resources
from api.tasks.attempt import Attempt
from api.tasks.dispatch import Dispatcher
from api.worker import answer_bells
from tests.waiting import until

Act = Callable[[Attempt], Awaitable[None]]


class Stage:
    """Every job that runs waits here for its cue."""

    def __init__(self) -> None:
        self.running: dict[UUID, Attempt] = {}
        self.started: list[tuple[UUID, int]] = []
        """(job, attempt) in order."""
        self._cues: dict[UUID, asyncio.Future[Act]] = {}

    async def run(self, attempt: Attempt) -> None:
        """The runner of every kind: acts as it is cued, cue after cue, until one has ended the job."""
        self.started.append((attempt.job_id, attempt.number))
        self.running[attempt.job_id] = attempt
        try:
            while not attempt.completed:
                cue = self._cues[attempt.job_id] = asyncio.get_running_loop().create_future()
                await (await cue)(attempt)
        finally:
            del self.running[attempt.job_id]

    async def cue(self, job_id: UUID, act: Act) -> None:
        """Have the running job do this now."""
        await until(lambda: job_id in self.running and not self._cues[job_id].done())
        self._cues[job_id].set_result(act)

    async def entered(self, *job_ids: UUID) -> None:
        """Until exactly these run."""
        await until(lambda: self.running.keys() == set(job_ids))


async def complete(attempt: Attempt) -> None:
    await attempt.complete(nothing_to_record)


async def nothing_to_record(_: AsyncSession) -> None:
    return None


async def leave_gpu(attempt: Attempt) -> None:
    attempt.release_gpu()


def failing(exc: BaseException) -> Act:
    async def fail(_: Attempt) -> None:
        raise exc

    return fail


@asynccontextmanager
async def on_duty(dispatcher: Dispatcher) -> AsyncIterator[None]:
    """A worker's duties around its dispatcher."""
    duties = (
        dispatcher.heartbeat(),
        dispatcher.look_for_work(),
        dispatcher.hear_cancels(),
        answer_bells(dispatcher.resources, dispatcher),
    )
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(duty) for duty in duties]
        try:
            yield
        finally:
            await dispatcher.close()
            for task in tasks:
                task.cancel()


async def published(resources: Resources, job_id: UUID) -> list[dict[str, Any]]:
    """Every snapshot that clients were sent of this job."""
    return [json.loads(fields[b"d"]) for _, fields in await resources.redis.xrange(job_stream(job_id))]
