"""A training on a disk that fills up, or with a trainer that hangs: it stops in time, loses nothing and goes on."""

import os
import signal
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from api.domain.disk import GB, MB
from api.domain.job import Kind, Queue
from api.resources import Resources
from api.settings import Settings
from api.tasks import room, trainer_watch
from api.tasks.dispatch import Dispatcher
from api.tasks.gpu import GpuKit
from api.tasks.train import train
from api.trainer import liveness, process
from api.trainer.process import RunnerHandle
from tests.job_rows import read
from tests.space import Space, on_disk
from tests.tasks.stage import on_duty, published
from tests.tasks.trainings import Training, begin, ended, success, tell_trainer, waits, with_fake_trainer
from tests.waiting import until, until_async

LITTLE = 900 * MB


@pytest.fixture
def settings(settings: Settings, engines_dir: Path, tmp_path: Path) -> Settings:
    return with_fake_trainer(settings, engines_dir, tmp_path)


@pytest.fixture
def space(monkeypatch: pytest.MonkeyPatch) -> Space:
    for module in (room, trainer_watch):
        monkeypatch.setattr(module, "LOOK_SECONDS", 0.02)
    return Space()


@pytest.fixture
def resources(resources: Resources, space: Space) -> Resources:
    return on_disk(resources, space)


@pytest.fixture
async def training(resources: Resources, tmp_path: Path) -> AsyncIterator[Training]:
    """Its trainer waits in the middle, until a file `go` appears, and then succeeds."""
    tell_trainer(resources, ("steps", 1), ("wait_for", "go"), *success(tmp_path))
    begun = await begin(resources, tmp_path)
    yield begun
    handle = process.find(begun.workdir)
    if handle is not None:
        await handle.stop(0)


def worker(resources: Resources) -> Dispatcher:
    return Dispatcher(resources, Queue.GPU, {Kind.TRAINING: partial(train, GpuKit(resources))})


async def started(training: Training) -> RunnerHandle:
    await until(lambda: waits(training), 20)
    handle = process.find(training.workdir)
    assert handle is not None
    return handle


def let_go(training: Training) -> None:
    training.workdir.root.mkdir(parents=True, exist_ok=True)
    (training.workdir.root / "go").touch()


async def says(training: Training, stage: str) -> None:
    async def said() -> bool:
        return [event["stage"] for event in await published(training.resources, training.job_id)][-1:] == [stage]

    await until_async(said)


async def test_a_training_begun_on_a_full_disk_waits_without_a_trainer_and_then_completes(
    training: Training, resources: Resources, space: Space
) -> None:
    space.free = LITTLE
    let_go(training)
    async with on_duty(worker(resources)):
        await says(training, "waiting_for_disk")
        assert not training.workdir.run.exists()
        space.free = 100 * GB
        assert await ended(training) == "completed"
    assert training.runs == 1


async def test_a_trainer_is_stopped_when_the_disk_fills_up_and_goes_on_when_it_has_space(
    training: Training, resources: Resources, space: Space
) -> None:
    async with on_duty(worker(resources)):
        handle = await started(training)
        await says(training, "training")
        space.free = LITTLE
        await until(lambda: handle.look().stopped)
        await says(training, "waiting_for_disk")
        let_go(training)
        space.free = 100 * GB
        assert await ended(training) == "completed"
    events = await published(resources, training.job_id)
    waited = [event["message"] for event in events if event["stage"] == "waiting_for_disk"]
    assert waited == [
        "The trainer is stopped and waits for disk space: 350 MB more must be free in "
        f"{resources.settings.masuka_data_dir}"
    ]
    assert (training.runs, events[-1]["attempt"], events[-1]["step"]) == (1, 1, 3)


async def test_a_trainer_that_a_dead_worker_left_frozen_goes_on_with_the_next_one(
    training: Training, resources: Resources, space: Space
) -> None:
    async with on_duty(worker(resources)):
        handle = await started(training)
        space.free = LITTLE
        await until(lambda: handle.look().stopped)
    assert handle.look().stopped  # a shutdown leaves it as it is
    let_go(training)
    async with on_duty(worker(resources)):
        await says(training, "waiting_for_disk")
        space.free = 100 * GB
        assert await ended(training) == "completed"
    assert training.runs == 1


async def test_a_trainer_that_anyone_has_stopped_goes_on(training: Training, resources: Resources) -> None:
    async with on_duty(worker(resources)):
        handle = await started(training)
        os.killpg(handle.trainer_pid, signal.SIGSTOP)
        let_go(training)
        assert await ended(training) == "completed"
    assert training.runs == 1


async def test_a_training_whose_trainer_is_frozen_can_be_cancelled(
    training: Training, resources: Resources, space: Space
) -> None:
    async with on_duty(worker(resources)):
        handle = await started(training)
        space.free = LITTLE
        await until(lambda: handle.look().stopped)
        await training.cancel()
        assert await ended(training) == "cancelled"
    assert handle.gone()


async def test_a_trainer_that_hangs_is_ended_and_the_next_attempt_trains(
    training: Training, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_duty(worker(resources)):
        handle = await started(training)
        tell_trainer(resources, *success(tmp_path))
        monkeypatch.setattr(liveness, "HUNG_SECONDS", 0.2)
        await until(handle.gone, 20)
        monkeypatch.setattr(liveness, "HUNG_SECONDS", 900.0)
        assert await ended(training) == "completed"
    assert ((await read(resources.sessions, training.job_id)).attempt, training.runs) == (2, 2)


async def test_a_trainer_that_hangs_every_time_fails_its_training_by_name(
    training: Training, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "HUNG_SECONDS", 0.2)
    monkeypatch.setattr(liveness, "CPU_SIGN_SECONDS", 100.0)
    async with on_duty(worker(resources)):
        assert await ended(training) == "failed"
    assert (await read(resources.sessions, training.job_id)).error_code == "trainer_hung"


async def test_a_trainer_that_found_the_disk_full_is_started_again(
    training: Training, resources: Resources, tmp_path: Path
) -> None:
    tell_trainer(resources, ("say_error", "OSError: [Errno 28] No space left on device"), ("exit", 1))
    async with on_duty(worker(resources)):
        await until(lambda: training.workdir.exit.exists(), 20)
        tell_trainer(resources, *success(tmp_path))
        assert await ended(training) == "completed"
    assert (await read(resources.sessions, training.job_id)).attempt > 1
