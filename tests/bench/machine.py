"""On what a figure was measured; without it no figure means anything."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path

import psutil

from api.engines import gpu

BYTES_PER_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of all cores since the machine began."""

    whole: float
    stolen: float


def times() -> Times:
    found = psutil.cpu_times()
    # `user` and `nice` have `guest` and `guest_nice` in them.
    whole = sum(found) - getattr(found, "guest", 0.0) - getattr(found, "guest_nice", 0.0)
    return Times(whole, getattr(found, "steal", 0.0))


def describe() -> dict[str, str | int | float]:
    cards = gpu.detect()
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count() or 1,
        "memory_gib": round(psutil.virtual_memory().total / BYTES_PER_GIB, 1),
        "gpu": ", ".join(card.name for card in cards) or "none",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def forget_peak(process: psutil.Process) -> None:
    """What it held until now does not count."""
    Path(f"/proc/{process.pid}/clear_refs").write_text("5", encoding="ascii")


def peak_bytes(process: psutil.Process) -> int:
    """The most that it held in memory at any moment since `forget_peak`, or since its start: the kernel keeps count."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def stolen_percent(before: Times, after: Times) -> float:
    """Of the machine's whole time between the two, what its host gave to others while something here wanted to run."""
    whole = after.whole - before.whole
    return round(100 * (after.stolen - before.stolen) / whole, 1) if whole else 0.0


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
