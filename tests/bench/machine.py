"""On what a figure was measured; without it no figure means anything."""

import os
import platform
from pathlib import Path

import psutil

from api.engines import gpu

BYTES_PER_GIB = 1024**3


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


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
