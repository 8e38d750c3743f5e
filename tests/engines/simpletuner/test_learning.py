"""A training on the real SimpleTuner as a person sees it learn: samples, course and log, from its start to its end."""

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from api.settings import Settings
from api.trainer import process
from tests.service import assert_problem, serving, with_values
from tests.tasks.stage import on_duty
from tests.tasks.trainings import Training, begin, ended, gpu_worker
from tests.waiting import until, until_async

pytestmark = [pytest.mark.engines, pytest.mark.timeout(900)]

STEPS, INTERVAL = 6, 3
PROMPTS = ["a red circle", "a tkn ball"]
PATIENCE_SECONDS = 240
"""The trainer takes 15 s to start on a machine that does nothing else."""


@pytest.fixture
async def trainings() -> AsyncIterator[list[Training]]:
    """Whose trainers do not outlive the test, however it ends."""
    begun: list[Training] = []
    yield begun
    for training in begun:
        handle = process.find(training.workdir)
        if handle is not None:
            await handle.stop(0)


async def test_a_training_shows_how_it_learns_while_it_runs_and_for_good(
    settings: Settings, valkey_url: str, tmp_path: Path, trainings: list[Training]
) -> None:
    async with serving(with_values(settings, redis_url=valkey_url)) as service:
        choices = {"sample_prompts": PROMPTS, "sample_steps": 2, "checkpoint_interval": INTERVAL, "rank": 4, "alpha": 2}
        training = await begin(service.resources, tmp_path, steps=STEPS, **choices)
        trainings.append(training)
        url = f"/api/training/{training.id}"
        assert_problem(await service.client.get(f"{url}/log"), 409, "log_not_yet")
        async with on_duty(gpu_worker(service.resources)):
            await until(lambda: list(training.workdir.samples.glob("*.png")), PATIENCE_SECONDS)

            live = await service.client.get(f"{url}/log")
            assert (live.status_code, live.headers["Masuka-Log-Source"]) == (200, "live")
            refused = assert_problem(await service.client.post(f"{url}/sample"), 409, "not_supported_by_trainer")
            assert refused["value"] == "3.1.6"
            assert "4.8" in refused["hint"]

            async def has_samples() -> bool:
                return bool((await service.client.get(f"{url}/samples")).json()["items"])

            await until_async(has_samples, PATIENCE_SECONDS)
            assert await ended(training, PATIENCE_SECONDS) == "completed"

        samples = (await service.client.get(f"{url}/samples")).json()
        assert samples["prompts"] == PROMPTS
        found = [(each["step"], each["position"], each["prompt"]) for each in reversed(samples["items"])]
        assert found == [(step, number, PROMPTS[number]) for step in (3, 6) for number in (0, 1)]
        for each in samples["items"]:
            with Image.open(io.BytesIO((await service.client.get(each["file_url"])).content)) as picture:
                assert (picture.size, picture.format) == ((64, 64), "PNG")
        gallery = (await service.client.get("/api/assets/", params={"tag": "sample"})).json()["items"]
        assert len(gallery) == len(found)
        sheet = await service.client.get(f"{url}/samples.png")
        assert sheet.headers["content-type"] == "image/png"

        metrics = (await service.client.get(f"{url}/metrics")).json()
        assert [point["step"] for point in metrics["points"]] == list(range(1, STEPS + 1))
        assert all(point["loss"] and point["learning_rate"] for point in metrics["points"][1:])
        assert metrics["step_seconds"] > 0
        assert metrics["checkpoints"] == [3, 6]
        assert (metrics["eta_seconds"], metrics["downsampled"]) == (None, False)

        stored = await service.client.get(f"{url}/log", params={"offset": 0, "limit": 1024 * 1024})
        assert stored.content == training.workdir.stdout.read_bytes()
        training.workdir.root.rename(tmp_path / "the machine is gone")
        kept = await service.client.get(f"{url}/log", params={"offset": 0, "limit": 1024 * 1024})
        assert (kept.content, kept.headers["Masuka-Log-Source"]) == (stored.content, "stored")


async def test_48_saves_and_draws_when_it_is_asked(
    settings: Settings, newer_engines_dir: Path, valkey_url: str, tmp_path: Path, trainings: list[Training]
) -> None:
    own = {"redis_url": valkey_url, "masuka_engines_dir": newer_engines_dir}
    async with serving(with_values(settings, **own)) as service:
        choices = {"sample_prompts": PROMPTS, "sample_steps": 1, "checkpoint_interval": 1000, "rank": 4, "alpha": 2}
        training = await begin(service.resources, tmp_path, steps=1000, **choices)
        trainings.append(training)
        url = f"/api/training/{training.id}"

        async def state() -> dict[str, Any]:
            return dict((await service.client.get(url)).json())

        async def steps() -> bool:
            return bool((await state())["current_step"])

        async def is_done() -> bool:
            drawn = (await service.client.get(f"{url}/samples")).json()["items"]
            return len(drawn) == len(PROMPTS) and bool((await state())["checkpoints"])

        async with on_duty(gpu_worker(service.resources)):
            await until_async(steps, PATIENCE_SECONDS)
            for act in ("checkpoint", "sample"):
                assert (await service.client.post(f"{url}/{act}")).status_code == 202
            await until_async(is_done, PATIENCE_SECONDS)
            await training.cancel()
            assert await ended(training, PATIENCE_SECONDS) == "cancelled"

        saved = [each["step"] for each in (await state())["checkpoints"]]
        metrics = (await service.client.get(f"{url}/metrics")).json()
        assert metrics["checkpoints"] == saved
        assert len(saved) == 1
        assert 0 < saved[0] < 1000
        samples = (await service.client.get(f"{url}/samples")).json()["items"]
        assert {each["position"] for each in samples} == {0, 1}
        assert len({each["step"] for each in samples}) == 1
        training.workdir.root.rename(tmp_path / "the machine is gone")
        kept = await service.client.get(f"{url}/log")
        assert (kept.status_code, kept.headers["Masuka-Log-Source"]) == (200, "stored")
