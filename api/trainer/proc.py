"""Processes as Linux knows them: who is who, who is left, how one ends. Standard library only."""

import contextlib
import os
import signal
import time
from pathlib import Path


def process_start(pid: int) -> int | None:
    """When the process began, in clock ticks since boot; None if it is gone or a zombie. With the pid, its identity."""
    stat = _stat(pid)
    return None if stat is None or stat[0] in "ZX" else int(stat[19])


def boot_id() -> str:
    """Changes with every boot, when pids and clock ticks start again."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name: state, parent, group, session, ..."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2 :].split()


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
    return [pid for pid in _pids() if (stat := _stat(pid)) is not None and int(stat[1]) == os.getpid()]


def group_members(group: int, *, session: int) -> list[int]:
    """The processes of a group in a session, zombies not counted."""
    return [
        pid
        for pid in _pids()
        if (stat := _stat(pid)) is not None and stat[0] not in "ZX" and (int(stat[2]), int(stat[3])) == (group, session)
    ]
