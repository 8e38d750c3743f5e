"""A really running MASUKA: `masuka up` in a process of its own, and a client for it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from api.bind import base_url, free_port
from api.client import Api
from api.settings import PROJECT_ROOT, Settings

READY_SECONDS = 180.0
STOP_SECONDS = 60
SIZE = {"base_model": "flux-tiny", "width": 64, "height": 64, "num_inference_steps": 4}
PROMPT = "a photo of ohwx on a blue background"


@dataclass
class Service:
    data_dir: Path
    port: int
    process: subprocess.Popen[bytes]
    api: Api

    def follow(self, any_id: str) -> list[dict[str, Any]]:
        """All snapshots until the end."""
        return list(self.api.follow(any_id))

    def draw(self, folder: Path, **wishes: Any) -> Path:
        """One finished picture on disk."""
        started = self.api.post("/api/generate/image", {**SIZE, "prompt": PROMPT, "seed": 5, **wishes})
        last = self.follow(started["asset_id"])[-1]
        assert last["status"] == "completed", last
        return self.api.download(f"/api/assets/{started['asset_id']}/file", folder / f"{started['asset_id']}.png")


@contextmanager
def running_service(
    data_dir: Path, engines_dir: Path, env: Mapping[str, str] | None = None, token: str = ""
) -> Iterator[Service]:
    """`masuka up` until ready; ended with SIGTERM, which must end it in time and with exit code 0."""
    port = free_port("127.0.0.1")
    clean = {key: value for key, value in os.environ.items() if key.lower() not in Settings.model_fields}
    ours = {"MASUKA_DATA_DIR": str(data_dir), "MASUKA_ENGINES_DIR": str(engines_dir), "MASUKA_PORT": str(port)}
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "up.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "api.cli", "up"],
            cwd=PROJECT_ROOT,
            env={**clean, **ours, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        with Api(base_url("127.0.0.1", port), token) as api:
            api.wait_ready(READY_SECONDS)
            yield Service(data_dir, port, process, api)
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS) == 0
    finally:
        process.kill()
        process.wait()


def pixels(path: Path) -> bytes:
    with Image.open(path) as image:
        return image.convert("RGB").tobytes()


def files_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
