"""Claims jobs, keeps their leases, and sees every attempt to an honest end."""

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import structlog
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from api.db import DATABASE_ERRORS
from api.domain.gpu_gate import GpuGate, Use
from api.domain.job import HEARTBEAT_SECONDS, Kind, Queue, StopReason
from api.errors import JobError, MasukaError, RetryableError
from api.lease import new_owner
from api.models import Job
from api.models.base import utcnow
from api.queue import CANCEL_CHANNEL
from api.resources import Resources
from api.services import jobs
from api.services.turns import Pending, Turn, next_pending
from api.tasks.attempt import Attempt

log = structlog.get_logger(__name__)

LOOK_SECONDS = 2.0
"""How late a pending job is found for which no bell rang."""
RECONNECT_SECONDS = 1.0
FINISH_SECONDS = 10.0
"""What a shutdown gives to a picture that is being made."""

Runner = Callable[[Attempt], Awaitable[None]]
"""Does one attempt. Ends by `attempt.complete`, by raising MasukaError, or by CancelledError after `attempt.stop`."""

Survey = Callable[[Pending, str | None], Awaitable[Use]]
"""Finds what a job with this base model wants of the GPU, and how much memory there is."""

Outcome = Callable[[AsyncSession], Awaitable[Job]]
"""Writes how an attempt ended. Raises LeaseLostError."""


@dataclass(slots=True)
class Outsider:
    """A training that has left the GPU until something else is there."""

    attempt: Attempt
    back: asyncio.Future[None] | None = None
    """Done when it has entered again; None while it does not want to."""


class Dispatcher:
    """Runs the jobs of one queue in this process."""

    def __init__(
        self, resources: Resources, queue: Queue, runners: Mapping[Kind, Runner], survey: Survey | None = None
    ) -> None:
        """`survey` measures what a policy that shares the GPU decides by; without it nothing is shared."""
        self.resources = resources
        self.queue = queue
        self.gate = GpuGate(shares=resources.settings.shares_gpu and survey is not None)
        self.attempts: dict[str, Attempt] = {}
        """By lease owner."""
        self._runners = runners
        self._survey = survey
        self._affinity: str | None = None
        self._training_left: datetime | None = None
        self._outsider: Outsider | None = None
        """Until it is back no other training starts, so there is one at most, and none is overtaken for ever."""
        self._claiming = asyncio.Lock()
        self._closing = False
        self._gpu_left = asyncio.Event()

    # ---- claim -------------------------------------------------------------------------------------------------------

    async def pump(self) -> None:
        """Start every pending job that the GPU admits now."""
        async with self._claiming:
            while not self._closing and await self._start_one():
                pass

    async def _start_one(self) -> bool:
        """Start the job whose turn it is; False when there is none, or the GPU does not admit it now."""
        if self._outsider is not None and self._outsider.back is not None:
            await self._let_back(self._outsider.attempt, self._outsider.back)
            return False
        turn = self._turn()
        async with self.resources.sessions() as session:
            best = await next_pending(session, self.queue, turn)
            use = None if best is None else await self._use(session, best)
        if turn != self._turn():
            return True  # a job has left the GPU meanwhile, and now it may be another's turn: look again
        if use is None or (self._outsider is not None and use.kind.exclusive) or not self.gate.admits(use):
            return False
        owner = new_owner()
        async with self.resources.sessions.begin() as session:
            job = await jobs.claim(session, use.job_id, owner)
        if job is not None:
            self._affinity = job.affinity or self._affinity
            attempt = Attempt(self.resources, job, owner, self._enter_gpu(use), self._outside)
            self.attempts[owner] = attempt
            attempt.task = asyncio.create_task(self._run(attempt), name=f"{job.kind}-{job.id}")
        return True  # also when another was faster: look again

    def _turn(self) -> Turn:
        only_pictures = self.gate.shares_with_training or self._outsider is not None
        return Turn(self._affinity, only_pictures, self._training_left)

    async def _use(self, session: AsyncSession, best: Pending) -> Use:
        """What the job wants of the GPU; measured only where it counts."""
        if not self.gate.shares or self._survey is None:
            return Use(best.id, best.kind)
        return await self._survey(best, await jobs.base_model_of(session, best.id, best.kind))

    def _enter_gpu(self, use: Use) -> Callable[[], None]:
        """Enter the GPU; the returned function leaves it, once, and lets the next job in."""
        leave = self.gate.enter(use)

        def leave_and_tell() -> None:
            if leave():
                self._training_left = utcnow() if use.kind.exclusive else self._training_left
                self._gpu_left.set()

        return leave_and_tell

    @asynccontextmanager
    async def _outside(self, attempt: Attempt) -> AsyncIterator[None]:
        """Leave the GPU to pictures; at the end none starts any more until those that are drawn have let it back."""
        self._outsider = outsider = Outsider(attempt)
        attempt.release_gpu()
        try:
            yield
            outsider.back = asyncio.get_running_loop().create_future()
            self._gpu_left.set()
            await outsider.back
        finally:
            self._outsider = None
            self._gpu_left.set()

    async def _let_back(self, attempt: Attempt, back: asyncio.Future[None]) -> None:
        """Have it enter the GPU, if it is admitted now and still waits for that."""
        async with self.resources.sessions() as session:
            use = await self._use(session, Pending(attempt.job_id, attempt.kind))
        if not back.done() and self.gate.admits(use):
            # Given to the attempt at once: should it be stopped before it goes on, its end leaves the GPU.
            attempt.release_gpu = self._enter_gpu(use)
            back.set_result(None)

    def state(self) -> dict[str, Any]:
        """For the worker's pulse: who holds the GPU."""
        return {"gpu": self.gate.state()} if self.queue is Queue.GPU else {}

    async def look_for_work(self) -> None:
        """Claim for ever: whenever the GPU has been left, and now and then, should no bell ring."""
        while True:
            self._gpu_left.clear()
            try:
                await self.pump()
            except DATABASE_ERRORS as exc:
                log.warning("claim_failed", error=str(exc))
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):  # wait_for would lose a cancellation (bpo-42130, before 3.12)
                    await self._gpu_left.wait()

    # ---- one attempt -------------------------------------------------------------------------------------------------

    async def _run(self, attempt: Attempt) -> None:
        with structlog.contextvars.bound_contextvars(job_id=str(attempt.job_id), attempt=attempt.number):
            try:
                outcome = await self._attempt(attempt)
                if outcome is not None:
                    await attempt.end(outcome)
            except jobs.LeaseLostError:
                log.warning("lease_lost")
            except DATABASE_ERRORS:
                log.exception("outcome_not_written")  # the lease runs out, and reconcile decides
            finally:
                attempt.release_gpu()
                self.resources.disk.release(attempt.lease.owner)
                del self.attempts[attempt.lease.owner]

    async def _attempt(self, attempt: Attempt) -> Outcome | None:
        """Run it; what is left to write about its end. Raises LeaseLostError."""
        try:
            await attempt.progress(urgent=True, stage="starting", message="Starting", eta_seconds=None)
            await self._runners[attempt.kind](attempt)
            if not attempt.completed:
                raise RuntimeError(f"the runner of {attempt.kind} ended without an outcome")
        except asyncio.CancelledError:
            return _stopped(attempt)
        except jobs.LeaseLostError:
            raise
        except MasukaError as exc:
            log.warning("attempt_failed", code=exc.code, error=exc.detail)
            return _failed(attempt, exc)
        except Exception as exc:  # the last line of defence: a bug in a runner must not leave a job running
            log.exception("attempt_crashed")
            return _failed(attempt, _error_of(exc))
        return None

    # ---- signs of life -----------------------------------------------------------------------------------------------

    async def heartbeat(self) -> None:
        """Renew the leases for ever."""
        while True:
            try:
                await self.renew()
            except DATABASE_ERRORS as exc:
                log.warning("heartbeat_failed", error=str(exc))
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def renew(self) -> None:
        """Renew the leases once; stop the attempts that have lost theirs, or whose cancel was asked for."""
        held = dict(self.attempts)
        async with self.resources.sessions.begin() as session:
            renewed = await jobs.renew(session, held.keys())
        for owner, attempt in held.items():
            if owner not in renewed:
                attempt.stop(StopReason.LEASE_LOST)
            elif renewed[owner] is not None:
                attempt.stop(StopReason.USER)

    async def hear_cancels(self) -> None:
        """Act at once on cancels announced over Redis; without Redis the heartbeat finds them."""
        while True:
            try:
                async with self.resources.redis.pubsub() as pubsub:
                    await pubsub.subscribe(CANCEL_CHANNEL)
                    async for message in pubsub.listen():
                        if message["type"] == "message":
                            await self._cancel_heard(UUID(message["data"].decode()))
            except (RedisError, ValueError, *DATABASE_ERRORS) as exc:
                log.warning("cancel_listener_interrupted", error=str(exc))
                await asyncio.sleep(RECONNECT_SECONDS)

    async def _cancel_heard(self, job_id: UUID) -> None:
        if any(attempt.job_id == job_id for attempt in self.attempts.values()):
            await self.renew()

    async def close(self, hurry: asyncio.Event | None = None) -> None:
        """Stop everything for a shutdown: jobs go back to pending, trainers go on by themselves.

        Without `hurry`, and until it is set, jobs that share the GPU have FINISH_SECONDS to finish.
        """
        self._closing = True
        async with self._claiming:  # what is being claimed now is then known, and stopped like the others
            attempts = list(self.attempts.values())
        short = [attempt for attempt in attempts if not attempt.kind.exclusive]
        for attempt in attempts:
            if hurry is None or attempt not in short:
                attempt.stop(StopReason.SHUTDOWN)
        if hurry is not None and short:
            log.info("finishing", jobs=len(short), at_most_seconds=FINISH_SECONDS)
            await _ended(short, hurry, FINISH_SECONDS)
        for attempt in short:
            attempt.stop(StopReason.SHUTDOWN)
        await asyncio.gather(*(attempt.task for attempt in attempts if attempt.task), return_exceptions=True)


async def _ended(attempts: list[Attempt], hurry: asyncio.Event, seconds: float) -> None:
    """Until the attempts have ended, `hurry` is set or the time is over."""
    ended = asyncio.create_task(asyncio.wait([attempt.task for attempt in attempts if attempt.task]))
    hurried = asyncio.create_task(hurry.wait())
    await asyncio.wait({ended, hurried}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
    hurried.cancel()


def _stopped(attempt: Attempt) -> Outcome:
    """What becomes of a job whose runner was told to stop."""
    if attempt.stop_reason is StopReason.USER:
        return partial(jobs.cancel, lease=attempt.lease)
    if attempt.stop_reason is StopReason.SHUTDOWN:
        return partial(jobs.release, lease=attempt.lease)
    raise jobs.LeaseLostError(value=str(attempt.job_id))


def _failed(attempt: Attempt, error: MasukaError) -> Outcome:
    # After a full disk another attempt begins by waiting until there is space.
    retryable = isinstance(error, RetryableError) or error.code == "disk_full"
    return partial(jobs.fail, lease=attempt.lease, error=error, retryable=retryable)


def _error_of(exc: Exception) -> MasukaError:
    """What an exception that nobody translated means for the job."""
    if isinstance(exc, MasukaError):
        return exc
    if isinstance(exc, ExceptionGroup):
        return _error_of(exc.exceptions[0])
    if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return JobError("The disk is full.", code="disk_full", hint="Free some space, then retry the job.")
    if isinstance(exc, (SQLAlchemyError, ConnectionError, TimeoutError)):
        return RetryableError("The database gave no answer.", code="database_unreachable")
    return JobError(
        "MASUKA itself failed while doing this job.",
        code="internal_error",
        hint="The worker's log has the details.",
    )
