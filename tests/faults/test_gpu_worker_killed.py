"""The GPU worker dies while the real ComfyUI draws: the picture is drawn by the next attempt, and nothing is left."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from api.client import Api
from api.scratch import scratch_root
from api.settings import Settings
from tests.service import with_values
from tests.up_process import is_gone, started
from tests.waiting import until

SLOW = {"base_model": "flux-tiny", "prompt": "a red circle", "width": 64, "height": 64, "num_inference_steps": 30}
RECOVERY_SECONDS = 20
"""From the death of a worker until the job runs again."""


@pytest.fixture
def settings(settings: Settings) -> Iterator[Settings]:
    with TemporaryDirectory(prefix="masuka-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield with_values(settings, masuka_data_dir=Path(folder) / "data")


@pytest.mark.engines
@pytest.mark.timeout(240)
async def test_a_picture_whose_worker_was_killed_is_drawn_by_the_next_attempt(settings: Settings) -> None:
    with started(settings) as up:
        await up.ready()
        with Api(f"http://127.0.0.1:{up.port}", "") as api:
            job = f"/api/jobs/{api.post('/api/generate/image', SLOW)['task_id']}"

            def now(key: str) -> object:
                row = api.get(job)
                return row["progress"].get(key) or row.get(key)

            await until(lambda: now("stage") == "sampling", 90)
            worker = up.child("worker-gpu")
            assert worker is not None
            engines = worker.children(recursive=True)
            assert engines
            worker.kill()

            await until(lambda: api.get(job)["attempt"] == 2 and api.get(job)["status"] == "running", RECOVERY_SECONDS)
            assert all(is_gone(engine) for engine in engines)
            await until(lambda: api.get(job)["finished_at"] is not None, 120)

            row = api.get(job)
            assert (row["status"], row["attempt"], row["error_code"]) == ("completed", 2, None)
            (asset,) = api.get("/api/assets/")["items"]
            assert asset["status"] == "completed"
            assert (
                api.download(f"/api/assets/{asset['id']}/file", settings.masuka_data_dir / "a.png").stat().st_size > 0
            )
            everybody: list[psutil.Process] = up.descendants()
            assert not [path for path in scratch_root(settings).iterdir() if path.name != "comfyui"]
    await until(lambda: all(is_gone(process) for process in everybody), 30)
