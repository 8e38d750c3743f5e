"""Which process is which, as Linux knows it. Standard library only."""

from pathlib import Path


def process_start(pid: int) -> int | None:
    """When the process began, in clock ticks since boot; None if it is gone or a zombie. With the pid, its identity.

    Unlike a time of day it does not change when the machine's clock is set.
    """
    stat = stat_of(pid)
    return None if stat is None or stat[0] in "ZX" else int(stat[19])


def boot_id() -> str:
    """Changes with every boot, when pids and clock ticks start again."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def stat_of(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name: state, parent, group, session, ..."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2 :].split()
