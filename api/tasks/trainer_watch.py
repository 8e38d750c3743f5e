"""Watches a trainer while its messages are followed: frozen while the disk is full, ended when it hangs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import structlog

from api.domain.disk import Act, act, shown_bytes, thaw_bytes
from api.errors import EngineError, RetryableError
from api.services.jobs import LeaseLostError
from api.tasks.attempt import Attempt
from api.tasks.room import WAITING_FOR_DISK
from api.trainer import process
from api.trainer.liveness import HUNG_SECONDS, LastSign
from api.trainer.process import RunnerHandle
from api.trainer.workdir import Workdir

log = structlog.get_logger(__name__)

LOOK_SECONDS = 2.0


@asynccontextmanager
async def watched(attempt: Attempt, workdir: Workdir) -> AsyncIterator[None]:
    """While inside, the trainer in `workdir` is watched.

    Raises RetryableError `trainer_hung` in place of the RetryableError that the end of a hung trainer leads to.
    """
    watch = _Watch(attempt, workdir)
    watching = asyncio.create_task(watch.run())
    try:
        yield
    except RetryableError as exc:
        if not watch.found_it_hung:
            raise
        raise RetryableError(
            f"The trainer said nothing and did nothing for {HUNG_SECONDS / 60:g} minutes.",
            code="trainer_hung",
            hint="The next attempt goes on from the newest training checkpoint.",
        ) from exc
    finally:
        watching.cancel()
        await asyncio.wait({watching})
        if not watching.cancelled() and (failure := watching.exception()) is not None:
            log.error("trainer_watch_failed", exc_info=failure)


class _Watch:
    def __init__(self, attempt: Attempt, workdir: Workdir) -> None:
        self.found_it_hung = False
        self._attempt = attempt
        self._disk = attempt.resources.disk
        self._workdir = workdir
        self._frozen = False
        """By this watch; another one may have died with its worker."""
        self._sign = LastSign(0, 0.0)
        self._looked_at = monotonic()

    async def run(self) -> None:
        """Look for ever."""
        while True:
            handle = process.find(self._workdir)
            if handle is not None:
                try:
                    await self._look(handle)
                except LeaseLostError:
                    return  # the heartbeat stops the attempt
                except (OSError, EngineError) as exc:
                    log.warning("trainer_not_watched", error=str(exc))
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self, handle: RunnerHandle) -> None:
        group = await asyncio.to_thread(handle.look)
        free = (await self._disk.usage()).free
        match act(free=free, floor=self._disk.floor, stopped=group.stopped, by_us=self._frozen):
            case Act.FREEZE:
                log.warning("trainer_frozen", pid=handle.trainer_pid, free_bytes=free)
                handle.freeze_trainer()
                self._frozen = True
                await self._tell(free)
            case Act.THAW:
                log.warning("trainer_thawed", pid=handle.trainer_pid, free_bytes=free, frozen_here=self._frozen)
                handle.thaw_trainer()
                self._frozen = False
                await self._attempt.notice()
            case Act.LEAVE if group.stopped:
                await self._tell(free)
            case Act.LEAVE:
                await self._look_for_life(handle, group.cpu_seconds)
        self._looked_at = monotonic()

    async def _tell(self, free: int) -> None:
        missing = thaw_bytes(self._disk.floor, by_us=self._frozen) - free
        await self._attempt.notice(
            stage=WAITING_FOR_DISK,
            message=f"The trainer is stopped and waits for disk space: {shown_bytes(missing)} more must be free in "
            f"{self._disk.folder}",
            eta_seconds=None,
        )

    async def _look_for_life(self, handle: RunnerHandle, cpu_seconds: float) -> None:
        # Should all of us have been asleep, as a suspended machine is, that was no silence of the trainer.
        seconds = min(monotonic() - self._looked_at, 2 * LOOK_SECONDS)
        self._sign = self._sign.after(seconds, self._workdir.events.stat().st_size, cpu_seconds)
        if self._sign.hung:
            log.error("trainer_hung", pid=handle.trainer_pid)
            self.found_it_hung = True
            await handle.stop()
