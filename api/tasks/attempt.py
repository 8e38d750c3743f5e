"""One attempt at one job, as its runner sees it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from api.db import DATABASE_ERRORS
from api.domain.job import Kind, StopReason
from api.domain.progress import Snapshot
from api.models import Job
from api.resources import Resources
from api.services import jobs
from api.services.jobs import Lease

log = structlog.get_logger(__name__)

PUBLISH_INTERVAL_SECONDS = 0.1
SAVE_INTERVAL_SECONDS = 1.0
RETELL_SECONDS = 5.0

OutsideGpu = Callable[["Attempt"], AbstractAsyncContextManager[None]]


class Attempt:
    """The lease, the snapshot so far and the wish to stop, if any.

    A runner reports with `progress`, leaves the GPU with `release_gpu` once it no longer needs it, or `outside_gpu`
    while it waits for something else, and ends with `complete`.
    """

    def __init__(
        self, resources: Resources, job: Job, owner: str, release_gpu: Callable[[], None], outside_gpu: OutsideGpu
    ) -> None:
        self.resources = resources
        self.job_id: UUID = job.id
        self.kind: Kind = job.kind_enum
        self.number: int = job.attempt
        self.lease = Lease(job.id, owner)
        self.stop_reason: StopReason | None = None
        self.ending = False
        """Its end is being written: too late to stop it."""
        self.completed = False
        self.release_gpu = release_gpu
        self._outside_gpu = outside_gpu
        self.task: asyncio.Task[None] | None = None
        self._snapshot = Snapshot.from_dict(job.progress).with_changes(
            status=self.kind.running_word, attempt=job.attempt, error_code=None, error_message=None, hint=None
        )
        self._notice: dict[str, object] = {}
        self._published = 0.0
        self._saved = time.monotonic()
        self._unsaved = False

    @property
    def tag(self) -> str:
        """Unique to this claim, so that no leftover of an earlier one can be taken for ours."""
        return self.lease.owner.rpartition("|")[2]

    @property
    def prompt_id(self) -> str:
        return f"{self.job_id}-{self.tag}"

    def outside_gpu(self) -> AbstractAsyncContextManager[None]:
        """For an exclusive kind: out of the GPU within, and back in it, before any job that has not begun, after."""
        return self._outside_gpu(self)

    async def progress(self, *, urgent: bool = False, **changes: object) -> None:
        """Change the snapshot; it is saved and published now and then, at once when `urgent`.

        Raises LeaseLostError. A database or a Redis that does not answer costs news, never the attempt.
        """
        self._snapshot = self._snapshot.with_changes(**changes)
        now = time.monotonic()
        if urgent or now - self._saved >= SAVE_INTERVAL_SECONDS:
            await self._save()
        if urgent or now - self._published >= PUBLISH_INTERVAL_SECONDS:
            self._published = now
            await self.resources.progress.publish(self.job_id, self._shown())

    async def tell(self, **changes: object) -> None:
        """Change the snapshot and publish it at once; if it lasts, it is saved when the lease is renewed.

        What a picture passes through in milliseconds is so not worth a transaction.
        """
        self._snapshot = self._snapshot.with_changes(**changes)
        self._published, self._unsaved = time.monotonic(), True
        await self.resources.progress.publish(self.job_id, self._shown())

    async def save_told(self) -> None:
        """Save what `tell` has left unsaved. Raises LeaseLostError."""
        if self._unsaved and not self.ending:
            await self._save()

    async def notice(self, **over: object) -> None:
        """Show this over whatever is reported, until called with nothing. Raises LeaseLostError."""
        if over != self._notice:
            self._notice = over
            await self.progress(urgent=True)

    def _shown(self) -> Snapshot:
        return self._snapshot.with_changes(**self._notice)

    @property
    def step(self) -> int:
        """The step that clients have been told of."""
        return self._snapshot.step

    async def retell(self, past: Iterable[dict[str, Any]]) -> None:
        """Publish changes of the snapshot that were missed, one by one; nothing of it is saved, or waited for long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(RETELL_SECONDS):
                for changes in past:
                    await self.resources.progress.publish(self.job_id, self._snapshot.with_changes(**changes))

    async def _save(self) -> None:
        self._saved, self._unsaved = time.monotonic(), False
        try:
            async with self.resources.sessions.begin() as session:
                await jobs.save_progress(session, self.lease, self._shown())
        except DATABASE_ERRORS as exc:
            log.warning("progress_not_saved", error=str(exc))

    async def complete(self, record: Callable[[AsyncSession], Awaitable[None]]) -> None:
        """Write the results and the job's completion in one transaction; from here on nothing stops the attempt.

        Raises LeaseLostError, with nothing written.
        """
        self.ending = True
        async with self.resources.sessions.begin() as session:
            job = await jobs.complete(session, self.lease, self._snapshot.with_changes(progress=100.0))
            await record(session)
        self.completed = True
        await self.announce(job)

    async def end(self, outcome: Callable[[AsyncSession], Awaitable[Job]]) -> None:
        """Write an end without results, and how far it came. Raises LeaseLostError."""
        self.ending = True
        async with self.resources.sessions.begin() as session:
            await jobs.save_progress(session, self.lease, self._snapshot)
            job = await outcome(session)
        await self.announce(job)

    async def announce(self, job: Job) -> None:
        await self.resources.progress.publish(job.id, jobs.snapshot_of(job))

    def stop(self, reason: StopReason) -> None:
        """Tell the runner to stop, once; it sees CancelledError and finds the reason here."""
        if self.stop_reason is None and not self.ending and self.task is not None:
            self.stop_reason = reason
            self.task.cancel()
