"""Who holds a job: an owner that any process on the same host can check for life."""

import os
import secrets
import socket

from api.processes import process_start

_SEPARATOR = "|"
NOBODY = "nobody"
"""The owner of what is to be removed: as dead as one can be."""


def new_owner() -> str:
    """`host|pid|process start|random`, new for every claim."""
    pid = os.getpid()
    return _SEPARATOR.join((socket.gethostname(), str(pid), str(process_start(pid)), secrets.token_hex(4)))


def is_here(owner: str) -> bool:
    """Whether the owner's process is, or was, where this one is."""
    return owner.partition(_SEPARATOR)[0] == socket.gethostname()


def owner_is_dead(owner: str) -> bool:
    """Whether the owner ran on this host and its process is gone; False when nobody here can tell."""
    if owner == NOBODY:
        return True
    host, _, rest = owner.partition(_SEPARATOR)
    pid, _, rest = rest.partition(_SEPARATOR)
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    start = process_start(int(pid))
    return start is None or str(start) != rest.partition(_SEPARATOR)[0]
