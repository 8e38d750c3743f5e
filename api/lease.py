"""Who holds a job: an owner that any process beside it can check for life."""

import os
import secrets
import socket
from pathlib import Path

from api.processes import process_start

_SEPARATOR = "|"
_PID_NAMESPACE = Path("/proc/self/ns/pid")
NOBODY = "nobody"
"""The owner of what is to be removed: as dead as one can be."""


def new_owner() -> str:
    """`host@pid namespace|pid|process start|random`, new for every claim. It may name a file."""
    pid = os.getpid()
    return _SEPARATOR.join((_here(), str(pid), str(process_start(pid)), secrets.token_hex(4)))


def is_here(owner: str) -> bool:
    """Whether the owner's process is, or was, where this one is."""
    return owner.partition(_SEPARATOR)[0] == _here()


def owner_is_dead(owner: str) -> bool:
    """Whether the owner ran where this process runs and is gone; False when nobody here can tell."""
    if owner == NOBODY:
        return True
    host, _, rest = owner.partition(_SEPARATOR)
    pid, _, rest = rest.partition(_SEPARATOR)
    if host != _here() or not pid.isdecimal():
        return False
    start = process_start(int(pid))
    return start is None or str(start) != rest.partition(_SEPARATOR)[0]


def _here() -> str:
    """Where a pid means one process: containers may share the name of their host, and yet each counts from 1."""
    try:
        namespace = _PID_NAMESPACE.stat().st_ino
    except OSError:
        namespace = 0  # not a Linux: pids mean the same everywhere on the host
    return f"{socket.gethostname()}@{namespace}"
