"""A ComfyUI that cannot start is told with every picture and to whoever asks whether the service is ready."""

import sys
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from api.domain.generation import GenerateImageRequest
from api.domain.job import Kind, Queue
from api.engines import receipt
from api.engines.receipt import Receipt
from api.resources import Resources
from api.services import generation
from api.services.turns import Pending
from api.settings import Settings
from api.tasks.dispatch import Dispatcher
from api.tasks.generate import generate
from api.tasks.gpu import GpuKit
from tests.job_rows import read
from tests.service import with_values
from tests.tasks.stage import on_duty
from tests.waiting import until_async


@pytest.fixture
def settings(settings: Settings, engines_dir: Path, tmp_path: Path) -> Settings:
    """The real flux-tiny, and a ComfyUI that dies at its start."""
    engines = tmp_path / "engines"
    source = engines / "comfyui" / "source"
    source.mkdir(parents=True)
    (source / "main.py").write_text("raise SystemExit('no module named nothing')")
    receipt.write(engines / "comfyui", Receipt("", "0.3.75", str(source), sys.executable))
    (engines / "flux-tiny").symlink_to(engines_dir / "flux-tiny")
    return with_values(settings, masuka_engines_dir=engines)


async def test_a_comfyui_that_cannot_start_fails_the_picture_after_every_attempt_with_its_last_words(
    resources: Resources,
) -> None:
    kit = GpuKit(resources)
    request = GenerateImageRequest(prompt="a red circle", base_model="flux-tiny", width=64, height=64)
    async with resources.sessions.begin() as session:
        (asset,) = await generation.submit(session, resources.storage, resources.settings, {"flux-tiny"}, request)
        job_id = generation.task_of(asset)

    async def over() -> Any:
        return (await read(resources.sessions, job_id)).finished_at

    assert kit.state()["comfyui"] == "asleep"
    async with on_duty(Dispatcher(resources, Queue.GPU, {Kind.IMAGE: partial(generate, kit)})):
        await until_async(over, 20)
    job = await read(resources.sessions, job_id)
    assert (job.status, job.error_code, job.attempt) == ("failed", "comfyui_start_failed", 3)
    assert job.error_message is not None
    assert "no module named nothing" in job.error_message
    assert job.error_hint is not None
    assert "masuka install comfyui" in job.error_hint
    said = kit.state()
    assert said["comfyui"] == "failed"
    assert "no module named nothing" in said["comfyui_error"]
    await kit.close()


async def test_a_picture_whose_base_model_is_gone_does_not_end_the_worker(resources: Resources) -> None:
    picture = Pending(uuid4(), Kind.IMAGE)
    for name in ("flux-dev", "no such base"):
        assert (await GpuKit(resources).survey(picture, name)).need_gb == 0
