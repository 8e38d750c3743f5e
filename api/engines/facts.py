"""What is installed here, as it is written down with what was made with it."""

import subprocess
from pathlib import Path
from typing import Any

from api import __version__
from api.engines import gpu, receipt
from api.engines.sources import COMFYUI_COMMIT
from api.settings import Settings

GIT_SECONDS = 10
ENGINES = ("simpletuner", "comfyui")


def facts(settings: Settings) -> dict[str, Any]:
    """Versions, commits and torch of both engines, and the GPU. Reads receipts and asks `git` about checkouts."""
    found: dict[str, Any] = {name: _engine(settings, name) for name in ENGINES}
    return {"masuka": __version__, **found, "gpu": next((card.name for card in gpu.detect()), None)}


def _engine(settings: Settings, name: str) -> dict[str, str | None] | None:
    """None when it is not installed."""
    folder = settings.engines_dir / name
    installed = receipt.read(folder)
    if installed is None:
        return None
    source = Path(installed.source).resolve()
    if not source.is_relative_to(folder.resolve()):
        commit = _commit(source if source.is_dir() else source.parent)
    else:
        commit = COMFYUI_COMMIT if name == "comfyui" else None
    return {"version": installed.version, "commit": commit, "torch": installed.packages.get("torch")}


def _commit(checkout: Path) -> str | None:
    """What is checked out; None where that is no repository, or there is no git."""
    try:
        asked = subprocess.run(
            ["git", "-C", str(checkout), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return asked.stdout.strip() if asked.returncode == 0 else None
