"""Where the ngrok program is: the owner's, or one that pyngrok fetches."""

import contextlib
import io
import os
import tempfile
from pathlib import Path

from pyngrok import installer
from pyngrok.exception import PyngrokError

from api.ngrok.refusals import LATER, TunnelError
from api.settings import Settings

NAME = "ngrok"


def provide(settings: Settings) -> Path:
    """Blocking; a download of some 10 MB the first time. Raises TunnelError."""
    if settings.masuka_ngrok_path is not None:
        if not os.access(settings.masuka_ngrok_path, os.X_OK):
            raise TunnelError(
                f"There is no program at {settings.masuka_ngrok_path}.",
                pause_seconds=LATER,
                code="ngrok_not_found",
                hint="Correct MASUKA_NGROK_PATH, or leave it empty: then ngrok is fetched.",
            )
        return settings.masuka_ngrok_path
    path = settings.masuka_data_dir / "tunnel" / NAME
    if not path.exists():
        _fetch(path)
    return path


def _fetch(path: Path) -> None:
    """Whole, or not there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder, contextlib.redirect_stdout(io.StringIO()):
            arriving = Path(folder) / NAME
            installer.install_ngrok(str(arriving))
            arriving.replace(path)
    except (PyngrokError, OSError) as exc:
        raise TunnelError(
            f"ngrok's program could not be fetched: {exc}",
            code="ngrok_not_fetched",
            hint="Check the network; it is tried again. Or install ngrok and name it in MASUKA_NGROK_PATH.",
        ) from exc
