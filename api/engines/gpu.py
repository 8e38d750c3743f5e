"""Which NVIDIA GPUs this machine has, asked of `nvidia-smi`: no torch, no CUDA context."""

import logging
import shutil
import subprocess
from dataclasses import dataclass

QUERY = "index,name,memory.total,compute_cap,driver_version"
TIMEOUT_SECONDS = 20  # the first call after boot loads the driver

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Gpu:
    index: int
    name: str
    vram_gb: float
    """In GiB, as cards are sold: an 80 GB card says a little less than 80."""
    compute_capability: tuple[int, int]
    driver: str

    @property
    def has_fp8(self) -> bool:
        """Whether it computes in fp8 (Ada, Hopper and later)."""
        return self.compute_capability >= (8, 9)


def detect() -> list[Gpu]:
    """The machine's GPUs; empty without any, or with a driver that does not answer (which is logged)."""
    return parse(_ask(f"--query-gpu={QUERY}"))


def free_vram_gb() -> float | None:
    """In GiB, of the first GPU, which is the one that the engines use; None without any."""
    return parse_free(_ask("--query-gpu=memory.free", "--id=0"))


def _ask(*query: str) -> str:
    executable = shutil.which("nvidia-smi")
    if executable is None:
        return ""
    command = [executable, *query, "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as exc:
        log.warning("nvidia-smi is there and does not answer, so no GPU is used: %s", exc)
        return ""
    return answer.stdout


def parse_free(csv: str) -> float | None:
    mib = csv.strip()
    return int(mib) / 1024 if mib.isdigit() else None


def parse(csv: str) -> list[Gpu]:
    """One GPU a line, as `nvidia-smi --query-gpu` prints them; lines that are not such are passed over."""
    gpus = []
    for line in csv.splitlines():
        match [field.strip() for field in line.split(",")]:
            case [index, name, memory_mib, capability, driver] if index.isdigit() and memory_mib.isdigit():
                gpus.append(Gpu(int(index), name, round(int(memory_mib) / 1024, 1), _capability(capability), driver))
    return gpus


def _capability(text: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)


def largest_vram_gb(gpus: list[Gpu]) -> float | None:
    return max((gpu.vram_gb for gpu in gpus), default=None)
