"""How much of the machine's memory is free, read from the kernel, in bytes."""

from pathlib import Path

PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")


def available_bytes(proc: Path = PROC, cgroup: Path = CGROUP) -> int:
    """What can be had without swapping: of the machine, or of the container that we are in if that has less."""
    meminfo = dict(line.split(":", 1) for line in (proc / "meminfo").read_text().splitlines())
    available = int(meminfo["MemAvailable"].split()[0]) * 1024
    left = _left_in(cgroup)
    return available if left is None else min(available, left)


def _left_in(cgroup: Path) -> int | None:
    """None without a limit. Cached files count as free: the kernel drops them when memory is wanted."""
    try:
        limit = (cgroup / "memory.max").read_text().strip()
        used = int((cgroup / "memory.current").read_text())
        stat = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    except FileNotFoundError:
        return None
    return None if limit == "max" else int(limit) - used + int(stat["inactive_file"])
