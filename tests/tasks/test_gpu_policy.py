"""A training and pictures on one GPU, under both policies, by a ComfyUI and a trainer that start at once."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from uuid import UUID

import pytest

from api.domain.generation import GenerateImageRequest
from api.domain.job import Kind, Queue
from api.engines import receipt
from api.engines.receipt import Receipt
from api.resources import Resources
from api.services import generation
from api.services.standing import standing
from api.settings import Settings
from api.tasks import comeback
from api.tasks.dispatch import Dispatcher
from api.tasks.generate import generate
from api.tasks.gpu import GpuKit
from api.tasks.train import train
from api.trainer import process
from tests.comfy import small_comfyui
from tests.job_rows import read
from tests.service import with_values
from tests.tasks.stage import on_duty
from tests.tasks.trainings import Training, begin, ended, success, tell_trainer, waits
from tests.waiting import until, until_async

BUSY_SECONDS = 40.0


@pytest.fixture(params=["wait", "share"])
def policy(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def settings(settings: Settings, engines_dir: Path, tmp_path: Path, policy: str) -> Settings:
    engines = tmp_path / "engines"
    source = engines / "comfyui" / "source"
    source.mkdir(parents=True)
    (source / "main.py").symlink_to(str(small_comfyui.__file__))
    receipt.write(engines / "comfyui", Receipt("", "0.3.75", str(source), sys.executable))
    (engines / "flux-tiny").symlink_to(engines_dir / "flux-tiny")
    return with_values(settings, masuka_engines_dir=engines, masuka_gpu_policy=policy)


@pytest.fixture
async def kit(resources: Resources) -> AsyncIterator[GpuKit]:
    opened = GpuKit(resources)
    yield opened
    await opened.close()


async def ask(resources: Resources) -> UUID:
    request = GenerateImageRequest(
        prompt="a red circle", base_model="flux-tiny", width=64, height=64, num_inference_steps=2
    )
    async with resources.sessions.begin() as session:
        (asset,) = await generation.submit(session, resources.storage, resources.settings, {"flux-tiny"}, request)
        return generation.task_of(asset)


async def drawn(resources: Resources, job_id: UUID) -> None:
    async def over() -> bool:
        return (await read(resources.sessions, job_id)).finished_at is not None

    await until_async(over, BUSY_SECONDS)
    assert (await read(resources.sessions, job_id)).status == "completed"


@asynccontextmanager
async def begun(resources: Resources, folder: Path) -> AsyncIterator[Training]:
    """A training whose trainer is not left behind, however the test ends."""
    training = await begin(resources, folder)
    try:
        yield training
    finally:
        handle = process.find(training.workdir)
        if handle is not None:
            await handle.stop(0)


async def test_pictures_around_a_training(resources: Resources, kit: GpuKit, tmp_path: Path, policy: str) -> None:
    tell_trainer(resources, ("wait", None))
    runners = {Kind.IMAGE: partial(generate, kit), Kind.TRAINING: partial(train, kit)}
    dispatcher = Dispatcher(resources, Queue.GPU, runners, kit.survey)
    async with on_duty(dispatcher):
        await drawn(resources, await ask(resources))
        pid = kit.comfy().pid
        assert pid is not None
        async with begun(resources, tmp_path) as training:
            await until(lambda: waits(training), BUSY_SECONDS)
            picture = await ask(resources)

            if policy == "share":
                await drawn(resources, picture)
                assert kit.comfy().pid == pid
                assert training.trainer_runs
            else:
                assert not Path(f"/proc/{pid}").exists()
                await dispatcher.pump()
                assert dispatcher.state()["gpu"]["mode"] == "alone"
                async with resources.sessions() as session:
                    place = (await standing(session, resources.settings))[picture]
                assert place.message.startswith("Waiting: next in the queue, behind the training 'me'")

            await training.cancel()
            await drawn(resources, picture)
            await until(lambda: not training.trainer_runs, BUSY_SECONDS)


async def test_comfyui_is_back_before_the_trainer_that_it_gave_way_to_has_ended(
    resources: Resources, kit: GpuKit, tmp_path: Path
) -> None:
    tell_trainer(resources, *success(tmp_path), ("wait", None))
    runners = {Kind.IMAGE: partial(generate, kit), Kind.TRAINING: partial(train, kit)}
    async with on_duty(Dispatcher(resources, Queue.GPU, runners, kit.survey)):
        await drawn(resources, await ask(resources))
        async with begun(resources, tmp_path) as training:
            await until(lambda: waits(training), BUSY_SECONDS)

            await until(lambda: kit.comfy_url is not None, BUSY_SECONDS)

            assert training.trainer_runs
            await training.cancel()
            assert await ended(training, BUSY_SECONDS) == "cancelled"
            assert kit.state()["comfyui"] == "running"


@pytest.mark.parametrize("policy", ["wait"], indirect=True)
@pytest.mark.parametrize("first", ["picture", "training"])
async def test_a_comfyui_that_has_no_room_yet_gives_way_again(
    resources: Resources, kit: GpuKit, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    base = kit.base("flux-tiny")
    async with kit.use_comfy(base):
        pass
    await kit.yield_gpu(base.name)
    monkeypatch.setattr(comeback, "START_GB", 1e6)
    kit.comeback.begin(base)

    if first == "picture":
        async with kit.use_comfy(base):
            pass
        assert not await kit.comeback.give_up()
        return
    await kit.yield_gpu(base.name)
    assert kit.comfy_url is None
    monkeypatch.setattr(comeback, "START_GB", 0.0)
    kit.comeback.begin(base)
    await until(lambda: kit.comfy_url is not None, BUSY_SECONDS)


async def test_a_comfyui_that_nobody_used_is_not_started_by_a_training(
    resources: Resources, kit: GpuKit, tmp_path: Path
) -> None:
    tell_trainer(resources, *success(tmp_path))
    dispatcher = Dispatcher(resources, Queue.GPU, {Kind.TRAINING: partial(train, kit)})
    async with on_duty(dispatcher), begun(resources, tmp_path) as training:
        assert await ended(training, BUSY_SECONDS) == "completed"
    assert kit.state()["comfyui"] == "asleep"
