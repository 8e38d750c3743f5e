"""Which process is which, as Linux knows it, and what a child may know. Standard library only."""

import signal
from collections.abc import Mapping
from pathlib import Path

_PASSED = {"HOME", "USER", "LANG", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "XDG_CACHE_HOME"}
_PASSED_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "OMP_", "MKL_", "PYTORCH_", "TORCH", "TRITON_")


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


def without_secrets(inherited: Mapping[str, str]) -> dict[str, str]:
    """Of our environment what a process on this machine needs that computes with torch."""
    return {name: value for name, value in inherited.items() if name in _PASSED or name.startswith(_PASSED_PREFIXES)}


def describe_exit(returncode: int) -> str:
    """For people: how a process ended."""
    if returncode >= 0:
        return f"exit status {returncode}"
    name = signal.Signals(-returncode).name
    return f"{name}, perhaps out of memory" if name == "SIGKILL" else name
