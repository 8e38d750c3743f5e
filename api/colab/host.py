"""What Colab itself offers to a notebook, and nothing else does: secrets, a proxy, Drive, the browser's files."""

import contextlib
import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from api.colab.errors import NotebookError

DRIVE = Path("/content/drive")
PROXY_SECONDS = 10


def secrets(names: Iterable[str]) -> dict[str, str]:
    """Those of Colab's Secrets that are there and open to this notebook."""
    userdata = _colab("userdata")
    if userdata is None:
        return {}
    found = {}
    for name in names:
        with contextlib.suppress(userdata.SecretNotFoundError, userdata.NotebookAccessError):
            found[name] = str(userdata.get(name)).strip()
    return {name: value for name, value in found.items() if value}


def proxy_url(port: int) -> str | None:
    """Colab's own address of a port of its machine; None elsewhere, or when the notebook is not open in a browser.

    The service meets it as `Host` or as `Origin`: name both in MASUKA_ALLOWED_HOSTS and MASUKA_CORS_ORIGINS.
    """
    output = _colab("output")
    if output is None:
        return None
    try:
        found = output.eval_js(f"google.colab.kernel.proxyPort({int(port)})", timeout_sec=PROXY_SECONDS)
    except TimeoutError:
        return None
    return str(found).rstrip("/") if found else None


def mount_drive() -> Path:
    """The folder of the user's own Drive. Raises NotebookError where there is none."""
    drive = _colab("drive")
    if drive is None:
        raise NotebookError("There is no Google Drive here.", code="no_drive", hint="Leave DRIVE_FOLDER empty.")
    drive.mount(str(DRIVE))
    return DRIVE / "MyDrive"


def upload_into(folder: Path) -> None:
    """Ask the browser for files, and wait for them. Raises NotebookError elsewhere than on Colab."""
    files = _colab("files")
    if files is None:
        raise NotebookError(
            "There is no browser to ask for pictures.", code="no_upload", hint="Set SOURCE to a folder or a zip."
        )
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.chdir(folder):
        files.upload()


def hand_over(path: Path) -> bool:
    """Have the browser download a file; False where there is none to do it."""
    files = _colab("files")
    if files is None:
        return False
    files.download(str(path))
    return True


def is_colab() -> bool:
    return _colab("userdata") is not None


def _colab(part: str) -> Any:
    try:
        return importlib.import_module(f"google.colab.{part}")
    except ImportError:
        return None
