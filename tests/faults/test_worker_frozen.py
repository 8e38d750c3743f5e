"""The GPU worker stands still for longer than its lease: what it does when it goes on changes nothing."""

import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from PIL import Image

from api.client import Api
from api.settings import Settings
from tests.service import with_values
from tests.up_process import Up, started
from tests.waiting import until

SLOW = {"base_model": "flux-tiny", "prompt": "a red circle", "width": 64, "height": 64, "num_inference_steps": 30}
LEASE_AND_LOOK_SECONDS = 20


@pytest.fixture
def settings(settings: Settings) -> Iterator[Settings]:
    with TemporaryDirectory(prefix="masuka-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield with_values(settings, masuka_data_dir=Path(folder) / "data")


async def frozen_until_it_lost_its_lease(up: Up, job: str, api: Api) -> None:
    """Too short for the supervisor to take the worker for hung."""
    worker = up.child("worker-gpu")
    assert worker is not None
    began = time.monotonic()
    worker.suspend()
    try:
        await until(lambda: api.get(job)["attempt"] == 2, LEASE_AND_LOOK_SECONDS)
        assert time.monotonic() - began > 8  # its process lives, so only the time tells
        assert api.get(job)["status"] == "pending"
    finally:
        worker.resume()


@pytest.mark.engines
@pytest.mark.timeout(240)
async def test_a_worker_that_was_frozen_changes_nothing_and_draws_the_picture_again(settings: Settings) -> None:
    with started(settings) as up:
        await up.ready()
        with Api(f"http://127.0.0.1:{up.port}", "") as api:
            picture = api.post("/api/generate/image", SLOW)
            job = f"/api/jobs/{picture['task_id']}"

            def now(key: str) -> Any:
                return api.get(job)[key]

            await until(lambda: now("progress").get("stage") == "sampling", 90)
            await frozen_until_it_lost_its_lease(up, job, api)
            await until(lambda: now("finished_at") is not None, 120)

            assert (now("status"), now("attempt"), now("error_code")) == ("completed", 2, None)
            assert "lease_lost" in up.text()
            assert up.text().count("it is killed") == 0
            drawn = api.download(f"/api/assets/{picture['asset_id']}/file", settings.masuka_data_dir / "a.png")
            with Image.open(drawn) as image:
                image.load()
                assert image.size == (64, 64)
            (asset,) = api.get("/api/assets/")["items"]
            assert asset["status"] == "completed"
            stored = list((settings.masuka_data_dir / "storage" / "assets").iterdir())
            assert [path.read_bytes() for path in stored] == [drawn.read_bytes()]
