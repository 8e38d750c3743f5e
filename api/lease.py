"""Who holds a job: an owner that any process on the same host can check for life."""

import os
import secrets
import socket

import psutil

_SEPARATOR = "|"


def new_owner() -> str:
    """`host|pid|process start|random`, new for every claim."""
    pid = os.getpid()
    return _SEPARATOR.join((socket.gethostname(), str(pid), str(_started(pid)), secrets.token_hex(4)))


def owner_is_dead(owner: str) -> bool:
    """Whether the owner ran on this host and its process is gone; False when nobody here can tell."""
    host, _, rest = owner.partition(_SEPARATOR)
    pid, _, rest = rest.partition(_SEPARATOR)
    if host != socket.gethostname() or not pid.isdigit():
        return False
    started = _started(int(pid))
    return started is None or str(started) != rest.partition(_SEPARATOR)[0]


def _started(pid: int) -> float | None:
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None
