"""Builds the two engines: venv, packages, torch, source, and a real start at the end.

Every installation starts from an empty venv: with uv's cache that takes seconds, and whatever an interrupted one left
behind cannot matter.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from api.domain.engine import ComfyInstall, TrainerInstall
from api.engines import receipt, sources, torch_build, try_out, uv
from api.engines.receipt import Receipt
from api.engines.sources import LOCKS, Source
from api.errors import InstallError
from api.settings import Settings

Report = Callable[[str, float | None], None]
"""Told the stage, and the fraction done (None: unknown)."""

TORCHVISION_STUB = Path(__file__).with_name("comfy_nodes") / "masuka_torchvision_stub"
TRAINER_SHIM = Path(__file__).with_name("shims") / "masuka_trainer_shim.py"
COMFYUI_DISK_GB, SIMPLETUNER_DISK_GB, CUDA_DISK_GB = 1.6, 1.8, 5.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides how an engine is built."""

    folder: Path
    source: Source
    locks: tuple[Path, ...]
    gpu: bool
    torchvision_needed: bool
    disk_gb: float

    @property
    def spec(self) -> str:
        facts = (sys.base_prefix, sys.version, str(self.folder), str(self.source), str(self.gpu), torch_build.TORCH)
        return receipt.spec_hash((*facts, *self.locks, sources.CARRIER_LOCK, TRAINER_SHIM))

    @property
    def python(self) -> Path:
        return uv.interpreter(self.folder / "venv")


def comfyui_recipe(settings: Settings, *, gpu: bool) -> Recipe:
    return Recipe(
        folder=settings.engines_dir / "comfyui",
        source=sources.comfyui(settings),
        locks=(LOCKS / "comfyui.txt",),
        gpu=gpu,
        torchvision_needed=gpu,  # without one, the stub does
        disk_gb=COMFYUI_DISK_GB + CUDA_DISK_GB * gpu,
    )


def simpletuner_recipe(settings: Settings, *, gpu: bool) -> Recipe:
    source = sources.simpletuner(settings)
    lock = "simpletuner-4.8.0.txt" if int(source.version.partition(".")[0]) >= 4 else "simpletuner-3.1.6.txt"
    return Recipe(
        folder=settings.engines_dir / "simpletuner",
        source=source,
        locks=(LOCKS / lock, *((LOCKS / "simpletuner-cuda.txt",) if gpu else ())),
        gpu=gpu,
        torchvision_needed=True,
        disk_gb=SIMPLETUNER_DISK_GB + CUDA_DISK_GB * gpu,
    )


def build_comfyui(recipe: Recipe, report: Report) -> Receipt:
    """Raises InstallError."""
    python = _build_venv(recipe, report)
    source = recipe.source.checkout
    if source is None:
        report("fetching ComfyUI", 0.6)
        source = recipe.folder / "source"
        sources.fetch_comfyui(python, source)
    elif recipe.source.version != sources.COMFYUI_VERSION:
        report("packages of your ComfyUI", 0.6)
        uv.install(python, "-r", str(source / "requirements.txt"), "--excludes", str(LOCKS / "comfyui.excludes"))
    built = _receipt(recipe, source)
    report("starting ComfyUI to try it", 0.7)
    return replace(built, packages=try_out.comfyui(comfyui_install(built), recipe.folder))


def build_simpletuner(recipe: Recipe, report: Report) -> Receipt:
    """Raises InstallError."""
    _build_venv(recipe, report)
    (site_packages,) = (recipe.folder / "venv").glob("lib/python*/site-packages")
    (site_packages / TRAINER_SHIM.name).write_bytes(TRAINER_SHIM.read_bytes())
    (site_packages / TRAINER_SHIM.with_suffix(".pth").name).write_text(f"import {TRAINER_SHIM.stem}\n")
    script = sources.train_script(recipe.source.checkout or site_packages)
    if script is None:
        raise InstallError(f"The lock holds no SimpleTuner: there is no train.py in {site_packages}.")
    built = _receipt(recipe, script)
    report("starting SimpleTuner to try it", 0.6)
    return replace(built, packages=try_out.simpletuner(trainer_install(built)))


RECIPES = {"comfyui": comfyui_recipe, "simpletuner": simpletuner_recipe}
BUILDERS = {"comfyui": build_comfyui, "simpletuner": build_simpletuner}


def comfyui_install(built: Receipt) -> ComfyInstall:
    return ComfyInstall(
        source=Path(built.source),
        python=Path(built.python),
        version=built.version,
        gpu=built.gpu,
        custom_nodes=(TORCHVISION_STUB,),
        env=built.env,
    )


def trainer_install(built: Receipt) -> TrainerInstall:
    return TrainerInstall(
        python=Path(built.python),
        train_py=Path(built.source),
        version=built.version,
        gpu=built.gpu,
        env=built.env,
    )


def _build_venv(recipe: Recipe, report: Report) -> Path:
    report("making its Python environment", 0.0)
    python = uv.make_venv(recipe.folder / "venv")
    for lock in recipe.locks:
        report("installing packages", 0.05)
        uv.install(python, "--no-deps", "--require-hashes", "-r", str(lock))
    ways = torch_build.attempts(gpu=recipe.gpu, torchvision_needed=recipe.torchvision_needed)
    torch_build.install(python, ways, lambda stage: report(stage, 0.3))
    return python


def _receipt(recipe: Recipe, source: Path) -> Receipt:
    checkout = recipe.source.checkout
    return Receipt(
        spec=recipe.spec,
        version=recipe.source.version,
        source=str(source),
        python=str(recipe.python),
        # A checkout comes before the packages of the venv, which hold the pinned SimpleTuner too.
        env={"PYTHONPATH": str(checkout)} if checkout and source.is_file() else {},
        gpu=recipe.gpu,
    )
