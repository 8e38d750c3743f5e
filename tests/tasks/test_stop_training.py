"""`--stop-training`: a shutdown ends the trainer so that nothing, or as little as can be, is trained twice."""

from pathlib import Path

import pytest

from api.resources import Resources
from api.settings import Settings
from api.trainer import checkpoint_stop
from tests.job_rows import read
from tests.service import with_values
from tests.tasks.stage import on_duty
from tests.tasks.trainings import Training, begin, gpu_worker, success, tell_trainer, waits, with_fake_trainer
from tests.trainer.checkpoint_files import checkpoint
from tests.waiting import until, until_async


@pytest.fixture
def settings(settings: Settings, engines_dir: Path, tmp_path: Path) -> Settings:
    return with_values(with_fake_trainer(settings, engines_dir, tmp_path), masuka_stop_training=True)


def saves(folder: Path) -> tuple[tuple[str, str | int], ...]:
    """It saves its first step, and its last one when asked."""
    first, last = (str(checkpoint(folder / "ready", step)) for step in (1, 3))
    return ("checkpoint", first), ("steps", 3), ("save_when_asked", last)


async def stopped_by_a_shutdown(resources: Resources, folder: Path) -> Training:
    """What is left when a worker was stopped while its trainer waited."""
    training = await begin(resources, folder)
    async with on_duty(gpu_worker(resources)):
        await until(lambda: waits(training))
    return training


async def assert_waits(training: Training, message: str) -> None:
    job = await read(training.resources.sessions, training.job_id)
    assert (job.status, job.attempt, job.progress["message"]) == ("pending", 1, message)
    assert not training.trainer_runs


async def test_a_trainer_that_can_saves_its_last_step_and_the_next_start_goes_on(
    resources: Resources, tmp_path: Path
) -> None:
    tell_trainer(resources, *saves(tmp_path), version="4.8.0")
    training = await stopped_by_a_shutdown(resources, tmp_path)
    await assert_waits(training, "Stopped at step 3; it will go on from step 3")
    assert (training.workdir.output / "checkpoint-3").is_dir()

    tell_trainer(resources, *success(tmp_path))
    async with on_duty(gpu_worker(resources)):

        async def over() -> bool:
            return (await read(resources.sessions, training.job_id)).finished_at is not None

        await until_async(over, 30)
    job = await read(resources.sessions, training.job_id)
    assert (job.status, job.attempt, training.runs) == ("completed", 1, 2)


async def test_one_that_cannot_is_stopped_at_once_and_the_steps_that_it_loses_are_said(
    resources: Resources, tmp_path: Path
) -> None:
    tell_trainer(resources, saves(tmp_path)[0], ("steps", 3), ("wait", None), version="3.1.6")
    training = await stopped_by_a_shutdown(resources, tmp_path)
    await assert_waits(training, "Stopped at step 3; it will go on from step 1")


async def test_a_step_that_takes_too_long_is_not_waited_for(
    resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_stop, "SAVE_SECONDS", 0.3)
    monkeypatch.setattr(checkpoint_stop, "GRACE_SECONDS", 0.3)
    tell_trainer(resources, ("ignore_sigint", None), ("steps", 3), ("wait", None), version="4.8.0")
    training = await stopped_by_a_shutdown(resources, tmp_path)
    await assert_waits(training, "Stopped at step 3; it will go on from step 0")


async def test_before_the_first_step_there_is_nothing_to_save(resources: Resources, tmp_path: Path) -> None:
    tell_trainer(resources, ("wait", None), version="4.8.0")
    training = await stopped_by_a_shutdown(resources, tmp_path)
    await assert_waits(training, "Stopped at step 0; it will go on from step 0")
