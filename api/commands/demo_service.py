"""The service that the demo starts for itself, so that it never touches anybody's work."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from api.bind import base_url, free_port
from api.services.training_folder import workdir_of
from api.settings import Settings
from api.trainer.workdir import Workdir

STOP_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Service:
    """`masuka up` with a data folder of its own, so that the demo never touches anybody's work."""

    process: subprocess.Popen[bytes]
    url: str
    data_dir: Path

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(STOP_SECONDS)

    def workdir(self, session_id: str) -> Workdir:
        """Where a training of this service lies."""
        return workdir_of(Settings(_env_file=None, masuka_data_dir=self.data_dir), UUID(session_id))


def start_service(settings: Settings, folder: Path) -> Service:
    """Start `masuka up` on a free port; its output goes to a log, as the bars need the terminal."""
    port = free_port("127.0.0.1")
    folder.mkdir(parents=True, exist_ok=True)
    data_dir = folder / "service"
    env = {
        **os.environ,
        "MASUKA_DATA_DIR": str(data_dir),
        "MASUKA_ENGINES_DIR": str(settings.engines_dir),
        "MASUKA_HOST": "127.0.0.1",
        "MASUKA_PORT": str(port),
    }
    with (folder / "service.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "api.cli", "up"],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    return Service(process, base_url("127.0.0.1", port), data_dir)
