"""A child process that is kept running: restarted with back-off when it ends or hangs, and gone with its parent."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from asyncio.subprocess import STDOUT, Process
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from api.child_output import output_pipe, pump
from api.errors import EX_CONFIG, ConfigError
from api.leftovers import write_down
from api.signs import SIGN_FD, SignPipe, Watch, until_silent

BACK_OFF_SECONDS = (0.2, 1.0, 3.0, 10.0, 30.0)
STABLE_SECONDS = 60.0
"""A child that lived this long starts its back-off anew."""
STOP_SECONDS = 23.0
"""With what ends before and after it, less than the 30 s in which a service must end."""
HURRY_SECONDS = 4.0
QUIET_SECONDS = 2.0
"""A child that ends sooner is not spoken of."""
LAST_WORDS_SECONDS = 1.0
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
    watch: Watch | None = None
    """None: it is not watched for hanging."""
    record: Path | None = None
    """Where it is written down while it runs, for whoever starts after this process was killed."""
    stop_seconds: float = STOP_SECONDS


async def keep(spec: ChildSpec, tell: Tell, hurry: asyncio.Event | None = None) -> int:
    """Run it, and again whenever it ends or hangs; its exit code when that says that another start would not help.

    Cancelled, it ends the process first: SIGTERM, patience (less once `hurry` is set), SIGKILL for the whole group.
    Raises ConfigError when there is no such program.
    """
    failures = 0
    while True:
        if spec.before is not None:
            await spec.before()
        began = time.monotonic()
        code = await _run(spec, tell, hurry or asyncio.Event())
        if code == EX_CONFIG:
            return code
        failures = 1 if time.monotonic() - began > STABLE_SECONDS else failures + 1
        pause = BACK_OFF_SECONDS[min(failures, len(BACK_OFF_SECONDS)) - 1]
        tell(spec.name, f"ended with code {code}; starting it again in {pause:g} s")
        await asyncio.sleep(pause)


async def _run(spec: ChildSpec, tell: Tell, hurry: asyncio.Event) -> int:
    async with output_pipe() as (lines, end):
        with contextlib.closing(SignPipe()) as signs:
            process = await _start(spec, end, signs)
            _write_down(spec, process, tell)
            pumping = asyncio.create_task(pump(lines, spec.log_path, partial(tell, spec.name)))
            watching = asyncio.create_task(_kill_when_silent(spec, process, signs, tell))
            try:
                return await process.wait()
            finally:
                watching.cancel()
                await _end(spec, process, tell, hurry)
                # Not longer: a process that it left behind may hold the pipe open.
                await asyncio.wait({pumping}, timeout=LAST_WORDS_SECONDS)
                pumping.cancel()


async def _start(spec: ChildSpec, output: int, signs: SignPipe) -> Process:
    """Takes over `output`. Raises ConfigError."""
    parent = os.getpid()
    try:
        return await asyncio.create_subprocess_exec(
            *spec.command,
            env={**spec.env, SIGN_FD: str(signs.write_end)},
            pass_fds=(signs.write_end,),
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


def _write_down(spec: ChildSpec, process: Process, tell: Tell) -> None:
    if spec.record is not None and sys.platform == "linux":
        try:
            write_down(spec.record, process.pid)
        except OSError as exc:  # a full disk must not end the service
            tell(spec.name, f"is not written down: {exc}")


def end_with(parent: int) -> None:
    """In a child, before exec: on Linux the kernel sends it SIGTERM when its parent dies, however it dies.

    To the kernel the parent is the thread that started the child: start it from the main one.
    """
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died in between
            os.kill(os.getpid(), signal.SIGTERM)


# ---- how it ends -------------------------------------------------------------------------------------------------


async def _kill_when_silent(spec: ChildSpec, process: Process, signs: SignPipe, tell: Tell) -> None:
    if spec.watch is not None:
        await until_silent(spec.watch, signs)
        tell(spec.name, f"hangs: no sign of life for {spec.watch.patience_seconds:g} s; it is killed")
        _kill(process)


async def _end(spec: ChildSpec, process: Process, tell: Tell, hurry: asyncio.Event) -> None:
    """Return when the process is gone."""
    if process.returncode is None:
        hurried = asyncio.create_task(hurry.wait())
        try:
            await _ask_to_end(spec, process, tell, hurried)
        finally:
            hurried.cancel()
    if process.returncode is None:
        tell(spec.name, "did not end when asked, and is killed")
        _kill(process)
        await process.wait()
    if spec.record is not None:
        spec.record.unlink(missing_ok=True)


async def _ask_to_end(spec: ChildSpec, process: Process, tell: Tell, hurried: asyncio.Task[bool]) -> None:
    ended = asyncio.create_task(process.wait())
    _terminate(process)
    quiet = min(QUIET_SECONDS, spec.stop_seconds)
    await asyncio.wait({ended, hurried}, timeout=quiet, return_when=asyncio.FIRST_COMPLETED)
    if not ended.done() and not hurried.done():
        tell(spec.name, f"is still ending; it is killed in {spec.stop_seconds - quiet:g} s")
        left = spec.stop_seconds - quiet
        await asyncio.wait({ended, hurried}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
    if not ended.done() and hurried.done():
        _terminate(process)  # a worker takes the second one as: finish nothing more
        await asyncio.wait({ended}, timeout=HURRY_SECONDS)
    ended.cancel()


def _terminate(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        process.send_signal(signal.SIGCONT)  # a frozen one would never hear of it


def _kill(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
