"""A child process that is kept running: its lines logged, restarted with back-off, and gone with its parent."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from asyncio.subprocess import STDOUT, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from api.errors import EX_CONFIG, ConfigError

BACK_OFF_SECONDS = (0.2, 1.0, 3.0, 10.0, 30.0)
STABLE_SECONDS = 60.0
"""A child that lived this long starts its back-off anew."""
STOP_SECONDS = 45.0
LAST_WORDS_SECONDS = 1.0
LOG_BYTES = 10_000_000
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)

Tell = Callable[[str, str], None]
"""(name of the process, line)"""


@dataclass(frozen=True, slots=True)
class ChildSpec:
    name: str
    command: tuple[str, ...]
    env: dict[str, str]
    log_path: Path
    before: Callable[[], Awaitable[None]] | None = None
    """Done before every start."""


async def keep(spec: ChildSpec, tell: Tell) -> int:
    """Run it, and again whenever it ends; its exit code when that says that another start would not help.

    Cancelled, it ends the process first: SIGTERM, patience, SIGKILL for the whole group.
    Raises ConfigError when there is no such program.
    """
    failures = 0
    while True:
        if spec.before is not None:
            await spec.before()
        began = time.monotonic()
        code = await _run(spec, tell)
        if code == EX_CONFIG:
            return code
        failures = 1 if time.monotonic() - began > STABLE_SECONDS else failures + 1
        pause = BACK_OFF_SECONDS[min(failures, len(BACK_OFF_SECONDS)) - 1]
        tell(spec.name, f"ended with code {code}; starting it again in {pause:g} s")
        await asyncio.sleep(pause)


async def _run(spec: ChildSpec, tell: Tell) -> int:
    async with _pipe() as (lines, end):
        process = await _start(spec, end)
        pump = asyncio.create_task(_pump(spec, lines, tell))
        try:
            return await process.wait()
        finally:
            await _end(process)
            await asyncio.wait({pump}, timeout=LAST_WORDS_SECONDS)  # a process it left behind may hold the pipe open
            pump.cancel()


@contextlib.asynccontextmanager
async def _pipe() -> AsyncIterator[tuple[asyncio.StreamReader, int]]:
    """What is written to the second, a file descriptor that the caller must close, is read from the first.

    A pipe of asyncio's own subprocesses cannot be closed before all who write to it are gone.
    """
    lines = asyncio.StreamReader()
    read_end, write_end = os.pipe()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(read_end, "rb", 0)
    )
    try:
        yield lines, write_end
    finally:
        transport.close()


async def _start(spec: ChildSpec, output: int) -> Process:
    """Takes over `output`. Raises ConfigError."""
    parent = os.getpid()
    try:
        return await asyncio.create_subprocess_exec(
            *spec.command,
            env=spec.env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=STDOUT,
            start_new_session=True,
            preexec_fn=lambda: end_with(parent),
        )
    except OSError as exc:
        raise ConfigError(
            f"{spec.command[0]} cannot be started: {exc.strerror}.", code="program_not_started", value=spec.command[0]
        ) from exc
    finally:
        os.close(output)  # the child has its own


def end_with(parent: int) -> None:
    """In a child, before exec: on Linux the kernel sends it SIGTERM when its parent dies, however it dies.

    To the kernel the parent is the thread that started the child: start it from the main one.
    """
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died in between
            os.kill(os.getpid(), signal.SIGTERM)


async def _end(process: Process) -> None:
    """Return when the process is gone."""
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
            return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


async def _pump(spec: ChildSpec, lines: asyncio.StreamReader, tell: Tell) -> None:
    """Every line to `tell` and to the log file, as long as that can be written."""
    with contextlib.ExitStack() as stack:
        log: BinaryIO | None = None
        try:
            log = stack.enter_context(_open_log(spec.log_path))
        except OSError as exc:
            tell(spec.name, f"there is no log: {exc}")
        while True:
            try:
                line = await lines.readline()
            except ValueError:  # a line longer than the buffer: it was dropped
                continue
            if not line:
                return
            tell(spec.name, line.decode(errors="replace").rstrip())
            try:
                if log is not None:
                    log.write(line)
            except OSError as exc:  # a full disk must not end the service
                tell(spec.name, f"the log ends here: {exc}")
                log = None


def _open_log(path: Path) -> BinaryIO:
    """The log, to append to; one that has grown large is put aside first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > LOG_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return path.open("ab", buffering=0)
