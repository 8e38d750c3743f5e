"""Small things about child processes and ports that the ComfyUI server needs."""

import asyncio
import os
import signal
import socket
from asyncio.subprocess import Process
from contextlib import suppress

import structlog

from api.processes import stat_of

log = structlog.get_logger(__name__)

_GRACE_SECONDS = 5.0
_AWAKE_SECONDS = 1.0
_POLL_SECONDS = 0.05


async def end_group(process: Process) -> None:
    """TERM, grace, KILL to a process that leads its group, and to all in it; returns when the leader is gone.

    Does nothing to a leader that has ended: its pid may be somebody else's by now. What it left is for `guard`.
    """
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        os.killpg(process.pid, signal.SIGCONT)  # one that is stopped would not hear it
    with suppress(TimeoutError):
        async with asyncio.timeout(_GRACE_SECONDS):
            await _ended(process)
    _kill_group(process)  # also when the leader has gone: it may have started processes of its own
    await _ended(process)


async def guard(process: Process) -> None:
    """Until it has ended: wake a process that leads its group whenever somebody has stopped it, with all in it.

    Then kill what it leaves behind in its group, at once, while nobody else can have its pid.
    """
    while process.returncode is None:
        stat = stat_of(process.pid)
        if stat is not None and stat[0] == "T":  # not "t": that is a debugger's
            log.warning("comfyui_was_stopped", pid=process.pid)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGCONT)
        with suppress(TimeoutError):
            async with asyncio.timeout(_AWAKE_SECONDS):
                await process.wait()
    _kill_group(process)


def _kill_group(process: Process) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def _ended(process: Process) -> None:
    """When the process is gone; `wait` alone would also wait for whoever else holds its pipes, perhaps for ever."""
    while True:
        with suppress(TimeoutError):
            async with asyncio.timeout(_POLL_SECONDS):
                await process.wait()
        if process.returncode is not None:
            return


def free_port() -> int:
    """A loopback port that nobody listens on at the moment."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


async def accepts(port: int) -> bool:
    """Whether somebody listens on a loopback port."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
