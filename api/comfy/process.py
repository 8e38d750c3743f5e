"""Small things about child processes and ports that the ComfyUI server needs."""

import asyncio
import os
import signal
import socket
from asyncio.subprocess import Process
from contextlib import suppress

_GRACE_SECONDS = 5.0


async def end_group(process: Process) -> None:
    """TERM, grace, KILL to a process that leads its group, and to all in it; returns when the leader is gone."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(TimeoutError):
        async with asyncio.timeout(_GRACE_SECONDS):
            await process.wait()
    # Also when the leader has gone: it may have started processes of its own.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def describe_exit(returncode: int) -> str:
    """For people: how a process ended."""
    if returncode >= 0:
        return f"exit status {returncode}"
    name = signal.Signals(-returncode).name
    return f"{name}, perhaps out of memory" if name == "SIGKILL" else name


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
