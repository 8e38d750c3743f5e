"""Children that outlived a killed supervisor: written down while they run, so that the next one can end them.

The kernel asks them to end (`child.end_with`), but one that is frozen or hangs does not hear it. Linux only, as is
the knowledge of which process is which.
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from api.errors import ConfigError
from api.processes import boot_id, process_start

PATIENCE_SECONDS = 10.0
"""They were asked by the kernel before: what they had to finish has had its time."""
KILLED_SECONDS = 10.0
"""Only one that waits inside the kernel, for a disk or a driver, outlives its kill for so long."""
_POLL_SECONDS = 0.05


def write_down(record: Path, pid: int) -> None:
    """Nothing when the process is gone already."""
    start = process_start(pid)
    if start is not None:
        record.parent.mkdir(exist_ok=True)
        record.write_text(json.dumps({"pid": pid, "start": start, "boot_id": boot_id()}))


def end_leftovers(folder: Path, tell: Callable[[str, str], None]) -> None:
    """Return when none of the processes that are written down in `folder` lives; only who holds it may ask.

    Raises ConfigError when one outlives even its kill: beside it, nothing could be started safely.
    """
    records = list(folder.glob("*.json"))
    for record in records:
        pid = _living(record)
        if pid is not None:
            tell(record.stem, f"was left behind by a `masuka up` that was killed; it is ended first (process {pid})")
            _terminate(pid)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while left := [pid for record in records if (pid := _living(record)) is not None]:
        late_seconds = time.monotonic() - deadline
        if late_seconds > KILLED_SECONDS:
            raise _stuck(left)
        if late_seconds > 0:
            for pid in left:
                _kill(pid)
        time.sleep(_POLL_SECONDS)
    for record in records:
        record.unlink(missing_ok=True)


def _stuck(pids: list[int]) -> ConfigError:
    return ConfigError(
        "What a killed `masuka up` left behind does not end, not even when it is killed.",
        code="leftover_stuck",
        value=", ".join(f"process {pid}" for pid in pids),
        hint="It waits inside the kernel: see to the disk or the GPU it uses, or restart the machine; then try again.",
    )


def _living(record: Path) -> int | None:
    """The process, if it still is the one that was written down; a crash may have left half a record."""
    try:
        written = json.loads(record.read_text())
        same = written["boot_id"] == boot_id() and written["start"] == process_start(written["pid"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return int(written["pid"]) if same else None


def _terminate(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGCONT)  # a frozen one would never hear of it


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
