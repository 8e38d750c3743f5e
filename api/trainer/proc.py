"""Groups of processes: who is left, how they end. Standard library only."""

import contextlib
import os
import signal
import time
from dataclasses import dataclass

from api.processes import stat_of


def reap(pid: int = 0) -> int | None:
    """Collect every ended child; the wait status of `pid` if it was among them."""
    status = None
    with contextlib.suppress(ChildProcessError):
        while True:
            ended, ended_status = os.waitpid(-1, os.WNOHANG)
            if ended == 0:
                break
            if ended == pid:
                status = ended_status
    return status


def signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def end_descendants(seconds: float) -> None:
    """Kill what the trainer left behind: as a subreaper, this process is the parent of all of it."""
    deadline = time.monotonic() + seconds
    while (children := _children()) and time.monotonic() < deadline:
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        reap()
        time.sleep(0.02)


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _children() -> list[int]:
    return [pid for pid in _pids() if (stat := stat_of(pid)) is not None and int(stat[1]) == os.getpid()]


@dataclass(frozen=True, slots=True)
class Group:
    """The living processes of a group in a session, as they were at one look."""

    pids: tuple[int, ...]
    stopped: bool
    """Whether one of them is stopped, as by SIGSTOP."""
    cpu_seconds: float
    """Used by them and by the children they have waited for."""


def look_at_group(group: int, *, session: int) -> Group:
    """Zombies are not counted."""
    stats = {pid: stat for pid in _pids() if (stat := stat_of(pid)) is not None and _is_member(stat, group, session)}
    ticks = sum(int(field) for stat in stats.values() for field in stat[11:15])
    return Group(tuple(stats), any(stat[0] == "T" for stat in stats.values()), ticks / os.sysconf("SC_CLK_TCK"))


def _is_member(stat: list[str], group: int, session: int) -> bool:
    return stat[0] not in "ZX" and (int(stat[2]), int(stat[3])) == (group, session)
