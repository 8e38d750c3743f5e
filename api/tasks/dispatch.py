"""Claims jobs, keeps their leases, and sees every attempt to an honest end."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any
from uuid import UUID

import structlog
from redis.exceptions import RedisError

from api.db import DATABASE_ERRORS
from api.domain.gpu_gate import GpuGate
from api.domain.job import HEARTBEAT_SECONDS, Kind, Queue, StopReason
from api.errors import MasukaError
from api.lease import new_owner
from api.queue import CANCEL_CHANNEL
from api.resources import Resources
from api.services import jobs
from api.tasks.admission import Admission, Survey
from api.tasks.attempt import Attempt
from api.tasks.ending import Ending, failed, stopped

log = structlog.get_logger(__name__)

LOOK_SECONDS = 2.0
"""How late a pending job is found for which no bell rang."""
RECONNECT_SECONDS = 1.0
FINISH_SECONDS = 10.0
"""What a shutdown gives to a picture that is being made."""

Runner = Callable[[Attempt], Awaitable[None]]
"""Does one attempt. Ends by `attempt.complete`, by raising MasukaError, or by CancelledError after `attempt.stop`."""


class Dispatcher:
    """Runs the jobs of one queue in this process."""

    def __init__(
        self, resources: Resources, queue: Queue, runners: Mapping[Kind, Runner], survey: Survey | None = None
    ) -> None:
        """`survey` measures what a policy that shares the GPU decides by; without it nothing is shared."""
        self.resources = resources
        self.queue = queue
        gate = GpuGate(shares=resources.settings.shares_gpu and survey is not None)
        self.admission = Admission(resources.sessions, queue, gate, survey)
        self.attempts: dict[str, Attempt] = {}
        """By lease owner."""
        self._runners = runners
        self._claiming = asyncio.Lock()
        self._closing = False

    # ---- claim -------------------------------------------------------------------------------------------------------

    async def pump(self) -> None:
        """Start every pending job that the GPU admits now."""
        async with self._claiming:
            while not self._closing and await self._start_one():
                pass

    async def _start_one(self) -> bool:
        """Start the job whose turn it is; False when there is none, or the GPU does not admit it now."""
        use = await self.admission.next()
        if use is None:
            return False
        owner = new_owner()
        async with self.resources.sessions.begin() as session:
            job = await jobs.claim(session, use.job_id, owner)
        if job is not None:
            self.admission.affinity = job.affinity or self.admission.affinity
            attempt = Attempt(self.resources, job, owner, self.admission.enter(use), self.admission.outside)
            self.attempts[owner] = attempt
            attempt.task = asyncio.create_task(self._run(attempt), name=f"{job.kind}-{job.id}")
        return True  # also when another was faster: look again

    def state(self) -> dict[str, Any]:
        """For the worker's pulse: who holds the GPU."""
        return {"gpu": self.admission.gate.state()} if self.queue is Queue.GPU else {}

    async def look_for_work(self) -> None:
        """Claim for ever: whenever the GPU has been left, and now and then, should no bell ring."""
        while True:
            self.admission.left.clear()
            try:
                await self.pump()
            except DATABASE_ERRORS as exc:
                log.warning("claim_failed", error=str(exc))
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):  # wait_for would lose a cancellation (bpo-42130, before 3.12)
                    await self.admission.left.wait()

    # ---- one attempt -------------------------------------------------------------------------------------------------

    async def _run(self, attempt: Attempt) -> None:
        with structlog.contextvars.bound_contextvars(job_id=str(attempt.job_id), attempt=attempt.number):
            try:
                ending = await self._attempt(attempt)
                if ending is not None:
                    await attempt.end(ending)
            except jobs.LeaseLostError:
                log.warning("lease_lost")
            except DATABASE_ERRORS:
                log.exception("ending_not_written")  # the lease runs out, and reconcile decides
            finally:
                attempt.release_gpu()
                self.resources.disk.release(attempt.lease.owner)
                del self.attempts[attempt.lease.owner]

    async def _attempt(self, attempt: Attempt) -> Ending | None:
        """Run it; what is left to write about its end. Raises LeaseLostError."""
        try:
            await attempt.tell(stage="starting", message="Starting", eta_seconds=None)
            await self._runners[attempt.kind](attempt)
            if not attempt.completed:
                raise RuntimeError(f"the runner of {attempt.kind} ended without an outcome")
        except asyncio.CancelledError:
            return stopped(attempt)
        except jobs.LeaseLostError:
            raise
        except MasukaError as exc:
            log.warning("attempt_failed", code=exc.code, error=exc.detail)
            return failed(attempt, exc)
        except Exception as exc:  # the last line of defence: a bug in a runner must not leave a job running
            log.exception("attempt_crashed")
            return failed(attempt, exc)
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
            else:
                with suppress(jobs.LeaseLostError):  # the next renewal stops it
                    await attempt.save_told()

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
