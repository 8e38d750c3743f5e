"""SimpleTuner 4.8.0 beside 3.1.6, for tests: on Python 3.11, too, where MASUKA itself installs only 3.1.6.

    python -m tests.engines.newer_simpletuner      puts it in place; milliseconds when it is there

By the product's own installer, lock and shim. Of the lock, the packages that need Python 3.12 are taken as 3.1.6's
lock has them; skrample is left to the shim, which stubs it; SimpleTuner's wheel is unpacked and used as a checkout.
"""

import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

from api.engines import engines, uv
from api.engines.engines import Recipe, Report
from api.engines.install import Progress, install
from api.engines.receipt import Receipt
from api.engines.sources import LOCKS, SIMPLETUNER_4_PYTHON, Source
from api.settings import PROJECT_ROOT, Settings

VERSION = "4.8.0"
NEWER_LOCK, OLDER_LOCK = LOCKS / f"simpletuner-{VERSION}.txt", LOCKS / "simpletuner-3.1.6.txt"
NEED_PYTHON_312 = ("av", "networkx", "numpy", "scipy", "soupsieve")
STUBBED = "skrample"
_PIN = re.compile(r"^([a-z0-9-]+)==.*(?:\n    .*)*\n", re.MULTILINE)


def newer_engines_dir(engines_dir: Path, progress: Progress) -> Path:
    """A folder of engines like `engines_dir`, whose SimpleTuner is 4.8.0; installed when it is not there."""
    if sys.version_info >= SIMPLETUNER_4_PYTHON:
        return engines_dir
    folder = engines_dir.with_name(f"{engines_dir.name}-simpletuner-{VERSION}")
    for name in ("comfyui", "flux-tiny"):
        _link(folder / name, engines_dir.resolve() / name)
    _write(folder / "packages.txt", _packages())
    with (
        patch.dict(engines.RECIPES, {"simpletuner": _recipe}),
        patch.dict(engines.BUILDERS, {"simpletuner": _build}),
    ):
        install(Settings(_env_file=None, masuka_engines_dir=folder), "simpletuner", progress)
    return folder


def _recipe(settings: Settings, *, gpu: bool) -> Recipe:
    """With the CPU build of torch, whatever the machine has."""
    folder = settings.engines_dir / "simpletuner"
    return Recipe(
        folder=folder,
        source=Source(VERSION, folder / "source"),
        locks=(settings.engines_dir / "packages.txt",),
        gpu=False,
        torchvision_needed=True,
        disk_gb=engines.SIMPLETUNER_DISK_GB,
    )


def _build(recipe: Recipe, report: Report) -> Receipt:
    report(f"fetching SimpleTuner {VERSION}", None)
    assert recipe.source.checkout is not None
    with tempfile.TemporaryDirectory(dir=recipe.folder) as scratch:
        pin, unpacked = Path(scratch, "pin.txt"), Path(scratch, "unpacked")
        pin.write_text(_pins(NEWER_LOCK)["simpletuner"])
        options = ("--python-version", "3.12", "--no-deps", "--require-hashes", "--target", str(unpacked))
        uv.install(Path(sys.executable), *options, "-r", str(pin))
        shutil.rmtree(recipe.source.checkout, ignore_errors=True)
        unpacked.rename(recipe.source.checkout)
    return engines.build_simpletuner(recipe, report)


def _packages() -> str:
    pins, older = _pins(NEWER_LOCK), _pins(OLDER_LOCK)
    carried = pins.pop("simpletuner").replace("\n", "\n# ").removesuffix("# ")  # another wheel is another installation
    del pins[STUBBED]
    return f"# {carried}" + "".join((pins | {name: older[name] for name in NEED_PYTHON_312}).values())


def _pins(lock: Path) -> dict[str, str]:
    """The lines of each package, hashes and all."""
    return {found[1]: found[0] for found in _PIN.finditer(lock.read_text())}


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.exists():
        partial = link.with_name(f".{link.name}.{os.getpid()}")
        partial.unlink(missing_ok=True)
        partial.symlink_to(target)
        partial.replace(link)


def _write(path: Path, text: str) -> None:
    """At once, for others read it at the same time."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text)
    partial.replace(path)


def tell(name: str, stage: str, fraction: float | None) -> None:
    done = "" if fraction is None else f" ({fraction:.0%})"
    sys.stderr.write(f"{name} {VERSION}: {stage}{done}\n")


if __name__ == "__main__":
    newer_engines_dir(Path(os.environ.get("MASUKA_ENGINES_DIR") or PROJECT_ROOT / "data" / "engines"), tell)
