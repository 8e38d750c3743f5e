"""Loaded at the start of every Python of a service under test: the reading of free disk space can be made to say none.

A disk cannot be filled up without harm to others on the same machine; so this is a fake of the one system call, and
what the service does about it is real.
"""

import os

_statvfs = os.statvfs
_FULL = os.environ.get("MASUKA_FAULTS_DISK_FULL", "")
"""While there is a file of this name, every disk is full."""


def _reading(path: int | str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> os.statvfs_result:
    found = _statvfs(path)
    if not os.path.exists(_FULL):
        return found
    values = list(found)
    values[3] = values[4] = 0  # f_bfree, f_bavail
    return os.statvfs_result(values)


if _FULL:
    os.statvfs = _reading
