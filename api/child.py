"""A child process that is watched: its lines logged, restarted with back-off, and gone with its parent."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

EX_CONFIG = 78
"""sysexits.h: the child found its configuration wrong; starting it again would not help."""
BACK_OFF_SECONDS = (0.2, 1.0, 3.0, 10.0, 30.0)
STABLE_SECONDS = 60.0
"""A child that lived this long starts its back-off anew."""
STOP_SECONDS = 45.0
LOG_BYTES = 10_000_000
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class ChildSpec:
    name: str
    command: tuple[str, ...]
    env: dict[str, str]
    log_path: Path
    before: Callable[[], Awaitable[None]] | None = None
    """Done before every start."""


class Child:
    """Keeps one process running until told to stop."""

    def __init__(self, spec: ChildSpec, tell: Callable[[str, str], None]) -> None:
        self.spec = spec
        self.restarts = 0
        self._tell = tell
        self._process: Process | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def run(self) -> int:
        """Start it, and again whenever it ends; the exit code when it must not be started again."""
        failures = 0
        while True:
            if self.spec.before is not None:
                await self.spec.before()
            began = time.monotonic()
            code = await self._run_once()
            if self._stopping or code == EX_CONFIG:
                return code
            failures = 0 if time.monotonic() - began > STABLE_SECONDS else failures + 1
            pause = BACK_OFF_SECONDS[min(failures, len(BACK_OFF_SECONDS) - 1)]
            self._tell(self.spec.name, f"ended with code {code}; starting it again in {pause:g} s")
            self.restarts += 1
            await asyncio.sleep(pause)

    async def _run_once(self) -> int:
        parent = os.getpid()
        self._process = await asyncio.create_subprocess_exec(
            *self.spec.command,
            env=self.spec.env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            start_new_session=True,
            preexec_fn=lambda: _end_with(parent),
        )
        await self._pump(self._process)
        return await self._process.wait()

    async def _pump(self, process: Process) -> None:
        """Every line to the log file and to `tell`."""
        assert process.stdout is not None
        self.spec.log_path.parent.mkdir(parents=True, exist_ok=True)
        if self.spec.log_path.exists() and self.spec.log_path.stat().st_size > LOG_BYTES:
            self.spec.log_path.replace(self.spec.log_path.with_suffix(".log.1"))
        with self.spec.log_path.open("ab", buffering=0) as log:
            while True:
                try:
                    line = await process.stdout.readline()
                except ValueError:  # a line longer than the buffer: it was dropped
                    continue
                if not line:
                    return
                log.write(line)
                self._tell(self.spec.name, line.decode(errors="replace").rstrip())

    async def stop(self) -> None:
        """SIGTERM, patience, SIGKILL for the whole group; returns when the process is gone."""
        self._stopping = True
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def _end_with(parent: int) -> None:
    """In the child, before exec: on Linux the kernel sends it SIGTERM when its parent dies, however it dies."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died in between
            os.kill(os.getpid(), signal.SIGTERM)
