"""A picture's job ends well, or honestly, whatever its ComfyUI meets meanwhile."""

import copy
import json
import time
import uuid
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from api.domain.generation import GenerateImageRequest
from api.domain.job import Kind, Queue
from api.models import GeneratedAsset, Job, Workflow
from api.resources import Resources, open_resources
from api.services import generation, workflows
from api.settings import Settings
from api.tasks.dispatch import Dispatcher
from api.tasks.generate import generate
from api.tasks.gpu import GpuKit
from api.tasks.render import LIGHTER_MESSAGE
from tests.engines.comfy_lab import LATENT, SAMPLER, Lab
from tests.job_rows import read, subject_of
from tests.tasks.stage import on_duty, published
from tests.waiting import until_async

pytestmark = [
    pytest.mark.engines,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(300),  # ComfyUI takes 5 s to start, and most of a minute on a machine that is busy
]


class Gallery:
    """A worker that makes pictures with the real ComfyUI."""

    def __init__(self, resources: Resources, lab: Lab) -> None:
        self.resources = resources
        self.server = lab.server
        self.kit = GpuKit(resources)
        self.kit._comfy = lab.server
        self._faulty: str | None = None

    def meet(self, fault: str, *, once: Path | None = None) -> None:
        """Every picture from now on meets this fault before its sampler begins."""
        graph = copy.deepcopy(workflows.shipped()["flux_text_to_image"].template.graph)
        about = {"fault": fault, "seconds": 0.0, "nonce": uuid.uuid4().hex, "once": str(once or "")}
        graph["50"] = {"class_type": "TestFault", "inputs": {"latent": [LATENT, 0], **about}}
        graph[SAMPLER]["inputs"]["latent_image"] = ["50", 0]
        self._faulty = json.dumps(graph)

    async def draw(self, side: int = 64) -> tuple[Job, GeneratedAsset]:
        """One picture to its end; the rows."""
        request = GenerateImageRequest(
            prompt="a red circle", base_model="flux-tiny", width=side, height=side, num_inference_steps=4, seed=5
        )
        resources = self.resources
        async with resources.sessions.begin() as session:
            (asset,) = await generation.submit(session, resources.storage, resources.settings, {"flux-tiny"}, request)
            job_id = generation.task_of(asset)
            if self._faulty is not None:
                workflow = Workflow(name=uuid.uuid4().hex, graph=self._faulty)
                session.add(workflow)
                asset.generation_config = {**asset.generation_config, "workflow_id": str(workflow.id)}

        async def over() -> Any:
            return (await read(resources.sessions, job_id)).finished_at

        async with on_duty(Dispatcher(resources, Queue.GPU, {Kind.IMAGE: partial(generate, self.kit)})):
            await until_async(over, 240)
        drawn = await subject_of(resources.sessions, job_id)
        assert isinstance(drawn, GeneratedAsset)
        return await read(resources.sessions, job_id), drawn


@pytest_asyncio.fixture(loop_scope="session")
async def gallery(settings: Settings, valkey_url: str, lab: Lab) -> AsyncIterator[Gallery]:
    async with open_resources(settings, valkey_url) as resources:
        yield Gallery(resources, lab)


async def test_a_comfyui_that_somebody_stops_is_woken_and_nothing_is_lost(gallery: Gallery, tmp_path: Path) -> None:
    await gallery.draw()
    pid = gallery.server.pid
    gallery.meet("frozen", once=tmp_path / "frozen")
    began = time.monotonic()
    job, _ = await gallery.draw()
    assert (tmp_path / "frozen").exists()
    assert (job.status, job.attempt, gallery.server.pid) == ("completed", 1, pid)
    assert time.monotonic() - began < 10


async def test_a_decoder_that_runs_out_of_memory_gets_smaller_tiles_from_the_same_comfyui(gallery: Gallery) -> None:
    _, whole = await gallery.draw(512)
    pid = gallery.server.pid
    gallery.meet("out_of_memory_decoding")
    job, asset = await gallery.draw(512)
    assert (job.status, job.attempt, gallery.server.pid) == ("completed", 1, pid)
    output = asset.generation_config["output"]
    assert (output["width"], output["height"], output["lighter"]) == (512, 512, True)
    assert not whole.generation_config["output"]["lighter"]
    assert LIGHTER_MESSAGE in [event["message"] for event in await published(gallery.resources, job.id)]


async def test_a_picture_that_is_too_large_in_every_way_fails_and_the_next_one_is_made(gallery: Gallery) -> None:
    gallery.meet("out_of_memory")
    job, _ = await gallery.draw()
    assert (job.status, job.error_code, job.attempt) == ("failed", "out_of_memory", 1)
    assert "Lower width and height" in (job.error_hint or "")
    gallery.meet("sleep")
    job, asset = await gallery.draw()
    assert (job.status, asset.generation_config["output"]["lighter"]) == ("completed", False)


async def test_a_sampler_that_runs_out_of_memory_gets_a_light_comfyui(gallery: Gallery) -> None:
    gallery.meet("out_of_memory_unless_light")
    job, asset = await gallery.draw()
    assert (job.status, job.attempt) == ("completed", 1)
    assert asset.generation_config["output"]["lighter"]
