"""What this machine can do, said at once in words, and which base model follows. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from api.engines.catalogue import FLUX_DEV, FLUX_TINY
from api.engines.gpu import Gpu

Wish = Literal["auto", "flux-tiny", "flux-dev"]
TRAINING_CAPABILITY = (8, 0)
"""From here on bf16 is computed by the card itself. PyTorch's `is_bf16_supported()` says yes to an emulation, too."""
TRAINING_RAM_GB = 48
"""SimpleTuner loads and quantises Flux in the machine's memory: about 50 GB, and such a machine says a little less."""
CHANGE = "In Colab: Runtime > Change runtime type > A100 or L4."


@dataclass(frozen=True, slots=True)
class Machine:
    gpus: Sequence[Gpu]
    ram_gb: float
    free_disk_gb: float
    hf_token: bool
    has_flux_dev: bool = False
    """It is installed already."""


@dataclass(frozen=True, slots=True)
class Verdict:
    base_model: str
    found: str
    words: tuple[str, ...]
    """What it cannot do, and what to do about it."""


def judge(machine: Machine, wish: Wish) -> Verdict:
    """What to work with here. A wish is granted, with what speaks against it."""
    found = f"{_card(machine)}, {machine.ram_gb:.0f} GB of RAM, {machine.free_disk_gb:.0f} GB of disk free"
    against = _against_flux_dev(machine)
    base_model = wish if wish != "auto" else FLUX_TINY.name if against else FLUX_DEV.name
    if base_model == FLUX_TINY.name and wish == "auto":
        against = [*against, f"So this is {FLUX_TINY.name}, a 9 MB Flux that shows how everything works."]
    return Verdict(base_model, found, () if wish == FLUX_TINY.name else tuple(against))


def _card(machine: Machine) -> str:
    if not machine.gpus:
        return "no GPU"
    gpu = machine.gpus[0]
    return f"{gpu.name} with {gpu.vram_gb:g} GB, compute capability {'.'.join(map(str, gpu.compute_capability))}"


def _against_flux_dev(machine: Machine) -> list[str]:
    return [*_against_training(machine), *_against_install(machine)]


def _against_training(machine: Machine) -> list[str]:
    if not machine.gpus:
        return [f"Without a GPU, {FLUX_DEV.name} neither trains nor draws. {CHANGE}"]
    gpu = machine.gpus[0]
    if gpu.compute_capability < TRAINING_CAPABILITY:
        draws = "It can draw, in fp8 and slowly." if gpu.vram_gb >= FLUX_DEV.generation[-1].at_least_gb else ""
        return [f"A {gpu.name} cannot train Flux: it is too old to compute in bf16. {draws} {CHANGE}"]
    if FLUX_DEV.pick_training_precision(gpu.vram_gb) is None:
        return [f"{gpu.vram_gb:g} GB of GPU memory are too little to train Flux, which needs 9. {CHANGE}"]
    if machine.ram_gb < TRAINING_RAM_GB:
        return [f"{machine.ram_gb:.0f} GB of RAM are too little to train Flux, which needs about 50. {CHANGE}"]
    return []


def _against_install(machine: Machine) -> list[str]:
    if machine.has_flux_dev:
        return []
    found = []
    if not machine.hf_token:
        found.append(
            f"{FLUX_DEV.name} needs HF_TOKEN in Colab's Secrets, and its licence accepted: {FLUX_DEV.licence_url}"
        )
    if machine.free_disk_gb < FLUX_DEV.disk_gb:
        found.append(f"{FLUX_DEV.name} needs {FLUX_DEV.disk_gb:g} GB of disk.")
    return found
