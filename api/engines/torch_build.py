"""Which build of torch a machine gets, and how to obtain it. One version for both engines: uv's cache links it once.

torch is not in the locks: its build depends on the machine, and the locks hold all of its pure-Python needs.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from api.engines import uv
from api.errors import InstallError

TORCH = "2.13.0"
TORCHVISION = "0.28.0"
HOPELESS = ("disk_full", "install_interrupted")
PLAIN = (f"torch=={TORCH}", f"torchvision=={TORCHVISION}")


@dataclass(frozen=True, slots=True)
class Attempt:
    """A way to get torch: the arguments of one or more `uv pip install`, all of which must succeed."""

    name: str
    commands: tuple[tuple[str, ...], ...]


def attempts(*, gpu: bool, platform: str = sys.platform, torchvision_needed: bool) -> list[Attempt]:
    """In order of preference.

    Without a GPU: the `+cpu` wheel of a configured wheel folder, else PyTorch's own CPU index, else the plain wheel
    (with CUDA on Linux: four times the size, and it works). The `+cpu` torchvision is seldom beside the `+cpu` torch;
    the plain one is built for CUDA, and imports only with a shim, so it is taken only where it is needed.
    """
    plain = Attempt("the plain build", (PLAIN,))
    if platform != "linux":
        return [plain]
    if gpu:
        return [Attempt("the build for this driver", ((*PLAIN, "--torch-backend", "auto"),)), plain]
    from_folder: list[tuple[str, ...]] = [("--no-index", "--no-deps", f"torch=={TORCH}+cpu")]
    if torchvision_needed:
        from_folder.append(("--no-deps", f"torchvision=={TORCHVISION}"))
    return [
        Attempt("the CPU build of the wheel folder", tuple(from_folder)),
        Attempt("the CPU build", (("--no-deps", *PLAIN, "--torch-backend", "cpu"),)),
        plain,
    ]


def install(python: Path, ways: list[Attempt], report: Callable[[str], None]) -> str:
    """Try one after the other; returns the name of the one that worked. Raises InstallError of the last."""
    for attempt in ways:
        report(f"torch {TORCH}: {attempt.name}")
        try:
            for command in attempt.commands:
                uv.install(python, *command)
        except InstallError as exc:
            if exc.code in HOPELESS or attempt is ways[-1]:
                raise
        else:
            return attempt.name
    raise ValueError("no way to get torch was given")
