"""One training from claim to registered LoRA, whatever happens to worker, trainer and storage meanwhile."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlmodel import col

from api.models import Job, Model
from api.resources import Resources
from api.settings import Settings
from api.tasks.dispatch import Dispatcher
from api.tasks.strays import stop_strays
from api.trainer import process
from tests.job_rows import read
from tests.tasks.stage import on_duty, published
from tests.tasks.trainings import (
    Training,
    begin,
    ended,
    gpu_worker,
    status_of,
    success,
    tell_trainer,
    waits,
    with_fake_trainer,
)
from tests.tasks.troubled import Troubled
from tests.waiting import until, until_async

WAIT = ("wait", None)


@pytest.fixture
def settings(settings: Settings, engines_dir: Path, tmp_path: Path) -> Settings:
    return with_fake_trainer(settings, engines_dir, tmp_path)


@pytest.fixture
async def training(resources: Resources, tmp_path: Path) -> AsyncIterator[Training]:
    begun = await begin(resources, tmp_path)
    yield begun
    handle = process.find(begun.workdir)
    if handle is not None:
        await handle.stop(0)


@pytest.fixture
def worker(resources: Resources) -> Dispatcher:
    return gpu_worker(resources)


async def loras(resources: Resources) -> list[Model]:
    async with resources.sessions() as session:
        return list((await session.scalars(sa.select(Model))).all())


async def test_a_training_ends_with_a_registered_lora_where_comfyui_finds_it(
    training: Training, worker: Dispatcher, resources: Resources, tmp_path: Path
) -> None:
    tell_trainer(resources, *success(tmp_path))
    async with on_duty(worker):
        assert await ended(training) == "completed"
    (model,) = await loras(resources)
    assert await resources.storage.size(model.storage_path)
    offered = resources.settings.masuka_data_dir / "comfyui" / "models" / "loras" / model.file_name
    await until(offered.exists)
    await until(lambda: not training.workdir.output.exists())


async def test_a_cancel_while_the_trainer_is_being_started_leaves_no_trainer(
    training: Training, worker: Dispatcher, resources: Resources
) -> None:
    tell_trainer(resources, WAIT)

    async def starting() -> bool:
        return any(event["message"] == "Starting the trainer" for event in await published(resources, training.job_id))

    async with on_duty(worker):
        await until_async(starting)
        await training.cancel()
        assert await ended(training) == "cancelled"
        assert training.runs == 1
        assert not training.trainer_runs


async def test_a_trainer_goes_on_without_its_worker_and_the_next_one_takes_it_up(
    training: Training, worker: Dispatcher, resources: Resources
) -> None:
    tell_trainer(resources, WAIT)
    async with on_duty(worker):
        await until(lambda: waits(training))
    assert await status_of(training) == "pending"
    await stop_strays(resources)
    assert training.trainer_runs

    async def taken_up() -> bool:
        return [event["stage"] for event in await published(resources, training.job_id)].count("preparing") > before

    before = [event["stage"] for event in await published(resources, training.job_id)].count("preparing")
    async with on_duty(gpu_worker(resources)):
        await until_async(taken_up)
        await training.cancel()
        assert await ended(training) == "cancelled"
    assert (training.runs, training.trainer_runs) == (1, False)


async def test_a_trainer_whose_session_was_cancelled_while_no_worker_was_there_is_stopped(
    training: Training, worker: Dispatcher, resources: Resources
) -> None:
    tell_trainer(resources, WAIT)
    async with on_duty(worker):
        await until(lambda: waits(training))
    await training.cancel()
    assert (await status_of(training), training.trainer_runs) == ("cancelled", True)

    await stop_strays(resources)

    assert not training.trainer_runs


async def test_a_trainer_is_a_stray_as_soon_as_its_training_runs_elsewhere(
    training: Training, worker: Dispatcher, resources: Resources
) -> None:
    tell_trainer(resources, WAIT)
    async with on_duty(worker):
        await until(lambda: waits(training))
        await stop_strays(resources)
        assert training.trainer_runs
    async with resources.sessions.begin() as session:
        elsewhere = {"status": "running", "lease_owner": "elsewhere|1|1|x"}
        await session.execute(sa.update(Job).where(col(Job.id) == training.job_id).values(elsewhere))

    await stop_strays(resources)

    assert not training.trainer_runs


async def test_a_trainer_that_was_stopped_from_outside_is_started_again(
    training: Training, worker: Dispatcher, resources: Resources, tmp_path: Path
) -> None:
    tell_trainer(resources, WAIT)
    async with on_duty(worker):
        await until(lambda: waits(training))
        tell_trainer(resources, *success(tmp_path))
        handle = process.find(training.workdir)
        assert handle is not None
        await handle.stop()
        assert await ended(training) == "completed"
    assert (await read(resources.sessions, training.job_id)).attempt == 2


async def test_a_trained_lora_that_could_not_be_stored_is_stored_by_a_retry_without_training_again(
    training: Training, worker: Dispatcher, resources: Resources, tmp_path: Path
) -> None:
    tell_trainer(resources, *success(tmp_path))
    in_the_way = resources.settings.masuka_data_dir / "storage" / "models"
    in_the_way.write_text("no folder")
    async with on_duty(worker):
        assert await ended(training) == "failed"
        assert (await read(resources.sessions, training.job_id)).error_code == "storage_failed"
        in_the_way.unlink()
        again = await training.retry()
        assert await ended(again) == "completed"
    assert training.runs == 1
    assert len(await loras(resources)) == 1


async def test_a_cancel_while_the_lora_is_stored_leaves_no_file(
    training: Training, resources: Resources, tmp_path: Path
) -> None:
    tell_trainer(resources, *success(tmp_path))
    hanging = Troubled(resources.storage, hangs=True)
    models = resources.settings.masuka_data_dir / "storage" / "models"
    async with on_duty(gpu_worker(replace(resources, storage=hanging))):  # type: ignore[arg-type]
        await until(lambda: list(models.glob("*/*")), 20)
        await training.cancel()
        assert await ended(training) == "cancelled"
    assert list(models.glob("*/*")) == []
    assert await loras(resources) == []


async def test_a_picture_that_changed_in_the_storage_fails_the_training(
    training: Training, worker: Dispatcher, resources: Resources, tmp_path: Path
) -> None:
    tell_trainer(resources, WAIT)
    (path,) = (resources.settings.masuka_data_dir / "storage" / "datasets").glob("*/*")
    path.write_bytes(b"something else")
    async with on_duty(worker):
        assert await ended(training) == "failed"
    assert (await read(resources.sessions, training.job_id)).error_code == "dataset_files_damaged"
    assert [file.suffix for file in training.workdir.dataset.iterdir()] == [".txt"]
