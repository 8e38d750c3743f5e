"""Claims jobs, keeps their leases, and sees every attempt to an honest end."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from uuid import UUID

import structlog
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from api.domain.job import HEARTBEAT_SECONDS, GpuGate, Kind, Queue, StopReason
from api.errors import JobError, MasukaError, RetryableError
from api.lease import new_owner
from api.models import Job
from api.queue import CANCEL_CHANNEL
from api.resources import Resources
from api.services import jobs
from api.tasks.attempt import Attempt

log = structlog.get_logger(__name__)

Runner = Callable[[Attempt], Awaitable[None]]
"""Does one attempt. Ends by `attempt.complete`, by raising MasukaError, or by CancelledError after `attempt.stop`."""


class Dispatcher:
    """Runs the jobs of one queue in this process."""

    def __init__(self, resources: Resources, queue: Queue, runners: Mapping[Kind, Runner]) -> None:
        self.resources = resources
        self.queue = queue
        self.gate = GpuGate()
        self.attempts: dict[str, Attempt] = {}
        """By lease owner."""
        self._runners = runners
        self._affinity: str | None = None
        self._claiming = asyncio.Lock()
        self._closing = False
        self._background: set[asyncio.Future[None]] = set()

    # ---- claim -----------------------------------------------------------------------------------------------------

    async def pump(self) -> None:
        """Start every pending job that the GPU admits now."""
        async with self._claiming:
            while not self._closing and await self._start_one():
                pass

    async def _start_one(self) -> bool:
        owner = new_owner()
        async with self.resources.sessions.begin() as session:
            job = await jobs.claim(session, self.queue, owner, admits=self.gate.admits, affinity=self._affinity)
        if job is None:
            return False
        self._affinity = job.affinity or self._affinity
        attempt = Attempt(self.resources, job, owner, self._gpu_release(job.kind_enum))
        self.attempts[owner] = attempt
        attempt.task = asyncio.create_task(self._run(attempt), name=f"{job.kind}-{job.id}")
        return True

    def _gpu_release(self, kind: Kind) -> Callable[[], None]:
        """Enter the GPU; the returned function leaves it, once, and lets the next job in."""
        self.gate.enter(kind)
        inside = True

        def leave() -> None:
            nonlocal inside
            if inside:
                inside = False
                self.gate.leave(kind)
                self._soon(self.pump())

        return leave

    # ---- one attempt -----------------------------------------------------------------------------------------------

    async def _run(self, attempt: Attempt) -> None:
        with structlog.contextvars.bound_contextvars(job_id=str(attempt.job_id), attempt=attempt.number):
            try:
                await self._attempt(attempt)
            except jobs.LeaseLostError:
                log.warning("lease_lost")
            except SQLAlchemyError:
                log.exception("outcome_not_written")  # the lease runs out, and reconcile decides
            finally:
                attempt.release_gpu()
                self.attempts.pop(attempt.lease.owner, None)

    async def _attempt(self, attempt: Attempt) -> None:
        try:
            await attempt.progress(urgent=True, stage="starting", message="Starting", eta_seconds=None)
            await self._runners[attempt.kind](attempt)
            if not attempt.completed:
                raise RuntimeError(f"the runner of {attempt.kind} ended without an outcome")
        except asyncio.CancelledError:
            await self._outcome(self._stopped(attempt))
        except jobs.LeaseLostError:
            raise
        except MasukaError as exc:
            log.warning("attempt_failed", code=exc.code, error=exc.detail)
            await self._outcome(self._failed(attempt, exc, retryable=isinstance(exc, RetryableError)))
        except Exception:  # the last line of defence: a bug in a runner must not leave a job running
            log.exception("attempt_crashed")
            bug = JobError(
                "MASUKA itself failed while doing this job.",
                code="internal_error",
                hint="The worker's log has the details.",
            )
            await self._outcome(self._failed(attempt, bug, retryable=False))

    @staticmethod
    async def _outcome(writing: Awaitable[Job]) -> None:
        """Persist the outcome even if this task is cancelled meanwhile."""
        await asyncio.shield(asyncio.ensure_future(writing))

    async def _stopped(self, attempt: Attempt) -> Job:
        async with self.resources.sessions.begin() as session:
            if attempt.stop_reason is StopReason.USER:
                job = await jobs.cancel(session, attempt.lease)
            elif attempt.stop_reason is StopReason.SHUTDOWN:
                job = await jobs.release(session, attempt.lease)
            else:
                raise jobs.LeaseLostError(value=str(attempt.job_id))
        await self._announce(job)
        return job

    async def _failed(self, attempt: Attempt, error: MasukaError, *, retryable: bool) -> Job:
        async with self.resources.sessions.begin() as session:
            job = await jobs.fail(session, attempt.lease, error, retryable=retryable)
        await self._announce(job)
        return job

    async def _announce(self, job: Job) -> None:
        await self.resources.progress.publish(job.id, jobs.snapshot_of(job))

    # ---- signs of life ---------------------------------------------------------------------------------------------

    async def heartbeat(self) -> None:
        """Renew the leases for ever; notice lost ones and wishes to cancel; look for work that no bell announced."""
        while True:
            try:
                await self.renew()
                await self.pump()
            except SQLAlchemyError as exc:
                log.warning("heartbeat_failed", error=str(exc))
            await asyncio.sleep(HEARTBEAT_SECONDS)

    async def renew(self) -> None:
        held = dict(self.attempts)
        async with self.resources.sessions.begin() as session:
            renewed = await jobs.renew(session, held.keys())
        for owner, attempt in held.items():
            if owner not in renewed:
                if owner in self.attempts and not attempt.completed:
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
            except (RedisError, OSError, SQLAlchemyError, ValueError) as exc:
                log.warning("cancel_listener_interrupted", error=str(exc))
                await asyncio.sleep(1)

    async def _cancel_heard(self, job_id: UUID) -> None:
        if any(attempt.job_id == job_id for attempt in self.attempts.values()):
            await self.renew()

    async def close(self) -> None:
        """Stop everything for a shutdown: jobs go back to pending, trainers go on by themselves."""
        self._closing = True
        attempts = list(self.attempts.values())
        for attempt in attempts:
            attempt.stop(StopReason.SHUTDOWN)
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*(a.task for a in attempts if a.task is not None), return_exceptions=True)

    def _soon(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
