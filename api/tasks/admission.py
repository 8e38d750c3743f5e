"""Which pending job may begin now: whose turn it is, and whether the GPU admits it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncSession

from api.db import Sessions
from api.domain.gpu_gate import GpuGate, Use
from api.domain.job import Queue
from api.models.base import utcnow
from api.services import jobs
from api.services.turns import Pending, Turn, next_pending
from api.tasks.attempt import Attempt

Survey = Callable[[Pending, str | None], Awaitable[Use]]
"""Finds what a job with this base model wants of the GPU, and how much memory there is."""


@dataclass(slots=True)
class Outsider:
    """A training that has left the GPU until something else is there."""

    attempt: Attempt
    back: asyncio.Future[None] | None = None
    """Done when it has entered again; None while it does not want to."""


class Admission:
    """Of the jobs of one queue in this process."""

    def __init__(self, sessions: Sessions, queue: Queue, gate: GpuGate, survey: Survey | None) -> None:
        """`survey` measures what a gate that shares decides by."""
        self.gate = gate
        self.affinity: str | None = None
        """Of the last job that began."""
        self.left = asyncio.Event()
        """The GPU has been left, or somebody wants it back: another look is worth it."""
        self._sessions = sessions
        self._queue = queue
        self._survey = survey
        self._training_left: datetime | None = None
        self._outsider: Outsider | None = None
        """Until it is back no other training starts, so there is one at most, and none is overtaken for ever."""

    async def next(self) -> Use | None:
        """What the job whose turn it is wants of the GPU; None when there is no job, or it is not admitted now."""
        while True:
            if self._outsider is not None and self._outsider.back is not None:
                await self._let_back(self._outsider.attempt, self._outsider.back)
                return None
            turn = self._turn()
            async with self._sessions() as session:
                best = await next_pending(session, self._queue, turn)
                use = None if best is None else await self._use(session, best)
            if turn == self._turn():  # else a job has left the GPU meanwhile, and now it may be another's turn
                break
        if use is None or (self._outsider is not None and use.kind.exclusive):
            return None
        return use if self.gate.admits(use) else None

    def _turn(self) -> Turn:
        only_pictures = self.gate.shares_with_training or self._outsider is not None
        return Turn(self.affinity, only_pictures, self._training_left)

    async def _use(self, session: AsyncSession, best: Pending) -> Use:
        """What the job wants of the GPU; measured only where it counts."""
        if not self.gate.shares or self._survey is None:
            return Use(best.id, best.kind)
        return await self._survey(best, await jobs.base_model_of(session, best.id, best.kind))

    def enter(self, use: Use) -> Callable[[], None]:
        """Enter the GPU; the returned function leaves it, once, and lets the next job in."""
        leave = self.gate.enter(use)

        def leave_and_tell() -> None:
            if leave():
                self._training_left = utcnow() if use.kind.exclusive else self._training_left
                self.left.set()

        return leave_and_tell

    @asynccontextmanager
    async def outside(self, attempt: Attempt) -> AsyncIterator[None]:
        """Leave the GPU to pictures; at the end none starts any more until those that are drawn have let it back."""
        self._outsider = outsider = Outsider(attempt)
        attempt.release_gpu()
        try:
            yield
            outsider.back = asyncio.get_running_loop().create_future()
            self.left.set()
            await outsider.back
        finally:
            self._outsider = None
            self.left.set()

    async def _let_back(self, attempt: Attempt, back: asyncio.Future[None]) -> None:
        """Have it enter the GPU, if it is admitted now and still waits for that."""
        async with self._sessions() as session:
            use = await self._use(session, Pending(attempt.job_id, attempt.kind))
        if not back.done() and self.gate.admits(use):
            # Given to the attempt at once: should it be stopped before it goes on, its end leaves the GPU.
            attempt.release_gpu = self.enter(use)
            back.set_result(None)
