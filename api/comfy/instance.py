"""One started ComfyUI: its process, its client, its log, the memory it holds, and how it ended."""

import asyncio
import signal
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic
from typing import Self

import structlog

from api.comfy import memory
from api.comfy.client import ComfyClient
from api.comfy.errors import OUT_OF_MEMORY_HINT, EngineDied
from api.comfy.log import ChildLog
from api.comfy.process import accepts, end_group, guard
from api.errors import EngineError
from api.processes import describe_exit

log = structlog.get_logger(__name__)

# Loading torch from a cold disk takes minutes on small machines; a process that has ended is noticed at once.
_START_LIMIT_SECONDS = 600.0
_POLL_SECONDS = 0.05
_LAST_WORDS_SECONDS = 1.0
_READ_BYTES = 65536
_LOG_LINES = 10
_RELIEF_SECONDS = 10.0
# Between what a new ComfyUI holds and what one holds that has drawn and given everything back: workspaces of the
# libraries, and what the allocator keeps.
_KEPT_BYTES = 1024**3


class Instance:
    """Made by `start`; `end` it, also after its process has died."""

    def __init__(self, process: Process, port: int, child_log: ChildLog, *, gpu: bool) -> None:
        self.process = process
        self.client = ComfyClient(f"http://127.0.0.1:{port}", child_log)
        self._port = port
        self._log = child_log
        self._gpu = gpu
        self._held_at_start = 0
        self._ended_by_us = False
        self._pump = asyncio.create_task(_pump(process, child_log), name="comfyui-log")
        self._guard = asyncio.create_task(guard(process), name="comfyui-guard")

    @classmethod
    async def start(
        cls, command: Sequence[str], env: Mapping[str, str], folder: Path, port: int, log_path: Path, *, gpu: bool
    ) -> Self:
        """A ComfyUI that listens. Raises EngineError `comfyui_start_failed` with the end of its log."""
        began = monotonic()
        child_log = ChildLog(log_path)
        with ExitStack() as stack:
            stack.callback(child_log.close)
            process = await _spawn(command, env, folder)
            stack.pop_all()  # the instance closes it
        instance = cls(process, port, child_log, gpu=gpu)
        try:
            await instance._until_listening()
            instance._held_at_start = await instance._held()
        except BaseException:
            await instance.end()
            raise
        instance.client.open()
        log.info("comfyui_started", pid=process.pid, port=port, seconds=round(monotonic() - began, 1))
        return instance

    @property
    def alive(self) -> bool:
        """False also when the process is there but has stopped answering."""
        return self.process.returncode is None and not self.client.gone

    @property
    def held_bytes(self) -> int:
        """What the process holds of the machine's memory, not of the GPU's."""
        return memory.held_bytes(self.process.pid)

    async def relieve(self) -> bool:
        """Have it give back all memory that it took since its start; whether it did.

        Only while no prompt is in flight: ComfyUI does it between prompts.
        """
        deadline = monotonic() + _RELIEF_SECONDS
        try:
            await self.client.free()
            while (held := await self._held()) > self._held_at_start + _KEPT_BYTES:
                if monotonic() > deadline:
                    log.warning("comfyui_keeps_memory", pid=self.process.pid, held_bytes=held)
                    return False
                await asyncio.sleep(_POLL_SECONDS)
        except EngineError as exc:
            log.warning("comfyui_not_relieved", pid=self.process.pid, error=exc.detail)
            return False
        return True

    async def kill(self) -> None:
        """End the process and all it started; who waits for a prompt gets EngineDied."""
        self._ended_by_us = True
        await end_group(self.process)
        await asyncio.wait({self._guard})  # it kills what a process that died by itself has left

    async def end(self) -> None:
        """Kill it and close what belongs to it."""
        await self.kill()
        await self.client.aclose()
        await self._last_words()
        # A process that has left the group may hold the pipe open.
        self._pump.cancel()
        self._log.close()

    async def explained(self, death: EngineDied) -> EngineDied:
        """The same error, telling how the process ended if it was not us who ended it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                await self.process.wait()
        returncode = self.process.returncode
        if returncode is None or self._ended_by_us:
            return death
        await self._last_words()
        if returncode == -signal.SIGKILL:
            # Nobody else kills like this but a person; the kernel leaves no word.
            return EngineDied(
                "ComfyUI was killed (SIGKILL), most likely because the machine ran out of memory.",
                code="out_of_memory",
                hint=OUT_OF_MEMORY_HINT,
                log_tail=self._log.tail(_LOG_LINES),
            )
        return EngineDied(
            f"ComfyUI ended while it was needed ({describe_exit(returncode)}).",
            hint=death.hint,
            log_tail=self._log.tail(_LOG_LINES),
        )

    async def _held(self) -> int:
        """Bytes, of the memory that ComfyUI computes in."""
        if not self._gpu:
            return self.held_bytes
        stats = await self.client.memory()
        return stats.vram_total - stats.vram_free

    async def _until_listening(self) -> None:
        deadline = monotonic() + _START_LIMIT_SECONDS
        while monotonic() < deadline:
            if self.process.returncode is not None:
                raise await self._start_error(
                    f"ComfyUI ended while starting ({describe_exit(self.process.returncode)})."
                )
            if await accepts(self._port):
                return
            await asyncio.sleep(_POLL_SECONDS)
        raise await self._start_error(f"ComfyUI was not ready after {_START_LIMIT_SECONDS:.0f} s.")

    async def _start_error(self, detail: str) -> EngineError:
        await self._last_words()
        return EngineError(
            f"{detail} It last said:\n{self._log.tail(_LOG_LINES)}",
            code="comfyui_start_failed",
            hint=f"Its whole log is {self._log.path.name}; `masuka install comfyui` mends an installation.",
        )

    async def _last_words(self) -> None:
        """Let what a process that has ended had printed reach the log."""
        await asyncio.wait({self._pump}, timeout=_LAST_WORDS_SECONDS)


async def _spawn(command: Sequence[str], env: Mapping[str, str], folder: Path) -> Process:
    try:
        return await asyncio.create_subprocess_exec(
            *command, env=env, cwd=folder, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, start_new_session=True
        )
    except OSError as exc:
        raise EngineError(
            f"ComfyUI cannot be started: {exc}",
            code="comfyui_start_failed",
            hint="`masuka install comfyui` mends an installation.",
        ) from exc


async def _pump(process: Process, child_log: ChildLog) -> None:
    """Until the last process that can write to the pipe has ended."""
    assert process.stdout is not None
    while data := await process.stdout.read(_READ_BYTES):
        child_log.feed(data)
    log.info("comfyui_ended", pid=process.pid, how=describe_exit(await process.wait()))
