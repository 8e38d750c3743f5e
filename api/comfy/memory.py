"""How much memory a process holds that only its end gives back for sure, and how much there is to hold."""

from collections.abc import Iterator
from pathlib import Path

import psutil

# Of all memory: the API, the workers, Valkey and the system live on the rest.
_SHARE = 0.8
_BYTES_PER_GB = 1024**3
_CGROUPS = Path("/sys/fs/cgroup")
# Files that are mapped, such as weights, are not counted: the kernel drops them when it needs the room.
_HELD = ("RssAnon:", "RssShmem:", "VmSwap:")


def held_bytes(pid: int) -> int:
    """Anonymous and shared memory of a process, in RAM or swapped out; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    fields = (line.split() for line in lines if line.startswith(_HELD))
    return sum(int(kilobytes) * 1024 for _, kilobytes, _ in fields)


def allowed_bytes(gigabytes: float) -> int:
    """The most that ComfyUI may hold; 0 stands for a share of the machine's memory, or of the container's."""
    if gigabytes:
        return int(gigabytes * _BYTES_PER_GB)
    total = psutil.virtual_memory().total
    return int(_SHARE * min(total, container_limit(Path("/proc/self/cgroup").read_text(), _CGROUPS) or total))


def container_limit(membership: str, cgroups: Path) -> int | None:
    """The least limit on memory among a process's control groups and those above them, in bytes; None without one.

    `membership` is the content of /proc/PID/cgroup. Inside a container the path that it names may lie outside of what
    is mounted there; the mount itself then is the container's group.
    """
    return min(_limits(membership, cgroups), default=None)


def _limits(membership: str, cgroups: Path) -> Iterator[int]:
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, name = cgroups, "memory.max"
        elif "memory" in controllers.split(","):
            root, name = cgroups / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(root) and (folder / name).is_file():
                text = (folder / name).read_text().strip()
                if text.isdecimal():  # else "max"
                    yield int(text)
