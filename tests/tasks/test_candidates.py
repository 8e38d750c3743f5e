"""The LoRA of each training checkpoint is ready to be drawn with, whatever becomes of the training and its machine."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlmodel import col

from api.errors import StorageError
from api.models import Model, TrainingCandidate, TrainingSession, UnrecordedFile
from api.resources import Resources
from api.services import candidates
from api.settings import Settings
from api.tasks import candidates as collecting
from api.tasks.candidates import collect
from api.tasks.dispatch import Dispatcher
from api.tasks.forget import forget
from api.trainer import process
from api.trainer.lora import check_lora
from api.trainer.workdir import FINAL_LORA
from tests.service import TO_Q, tiny_lora, with_values
from tests.tasks.stage import on_duty
from tests.tasks.trainings import Training, begin, ended, gpu_worker, success, tell_trainer, with_fake_trainer
from tests.trainer.checkpoint_files import checkpoint
from tests.waiting import until_async

WAIT = ("wait", None)
Action = tuple[str, Any]


@pytest.fixture
def settings(settings: Settings, engines_dir: Path, tmp_path: Path) -> Settings:
    settings = with_fake_trainer(settings, engines_dir, tmp_path)
    return with_values(settings, masuka_keep_failed_days=0)


@pytest.fixture
async def training(resources: Resources, tmp_path: Path) -> AsyncIterator[Training]:
    begun = await begin(resources, tmp_path, steps=12, checkpoints_kept=2, alpha=2.0, trigger_word="ohwx")
    yield begun
    handle = process.find(begun.workdir)
    if handle is not None:
        await handle.stop(0)


@pytest.fixture
def worker(resources: Resources) -> Dispatcher:
    return gpu_worker(resources)


def saves(folder: Path, step: int, lora: bytes | None = None) -> Action:
    ready = checkpoint(folder / "ready", step)
    (ready / FINAL_LORA).write_bytes(tiny_lora(rank=step) if lora is None else lora)
    return "checkpoint", str(ready)


def trains(step: int) -> Action:
    progress = {"current": step, "total": 12, "metrics": {"loss": 1 / step}}
    return "post", {"type": "training.status", "data": {"status": "running"}, "progress": progress}


async def found(training: Training) -> list[TrainingCandidate]:
    async with training.resources.sessions() as session:
        return await candidates.of_session(session, training.id)


async def has(training: Training, *steps: int) -> None:
    async def there() -> bool:
        return [row.step for row in await found(training)] == list(steps)

    await until_async(there, 20)


async def test_each_is_ready_while_the_training_runs_with_its_alpha_and_its_loss(
    training: Training, worker: Dispatcher, resources: Resources, tmp_path: Path
) -> None:
    tell_trainer(resources, trains(2), trains(3), saves(tmp_path, 3), WAIT)
    async with on_duty(worker):
        await has(training, 3)
        (row,) = await found(training)
        got = await resources.storage.get_file(str(row.storage_path), tmp_path / "got")
        await training.cancel()
        assert await ended(training) == "cancelled"

    assert (got.sha256, got.size) == (row.sha256, row.size_bytes)
    lora = check_lora(tmp_path / "got")
    assert (lora.rank, lora.tensors, row.rank, row.modules) == (3, 3, 3, 1)
    assert f"{TO_Q}.alpha".encode() in (tmp_path / "got").read_bytes()
    assert row.loss == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert (row.name, row.trigger_word, row.base_model) == ("me step 3", "ohwx", "flux-tiny")
    assert row.file_name == f"me-step-3-{row.sha256[:8]}.safetensors"
    assert row.card["engines"]["simpletuner"]["version"] == "3.1.6"
    assert (row.card["step"], row.card["dataset"]["name"], row.card["base"]["licence"]) == (3, "me", "MIT")


async def test_they_stay_when_the_working_state_of_a_cancelled_training_goes(
    training: Training, worker: Dispatcher, resources: Resources, tmp_path: Path
) -> None:
    tell_trainer(resources, saves(tmp_path, 3), WAIT)
    async with on_duty(worker):
        await has(training, 3)
        await training.cancel()
        await ended(training)
    await forget(resources)
    assert not training.workdir.output.exists()
    (row,) = await found(training)
    assert await resources.storage.size(str(row.storage_path)) == row.size_bytes


async def test_a_finished_training_has_them_all_beside_its_model(
    training: Training, worker: Dispatcher, resources: Resources, tmp_path: Path
) -> None:
    tell_trainer(resources, saves(tmp_path, 3), saves(tmp_path, 6), saves(tmp_path, 9), *success(tmp_path))
    async with on_duty(worker):
        assert await ended(training) == "completed"
    await has(training, 3, 6, 9)
    await forget(resources)
    assert not training.workdir.output.exists()
    async with resources.sessions() as session:
        model = (await session.scalars(sa.select(Model))).one()
    assert (model.card["step"], model.card["seed"], model.card["session"]["id"]) == (12, 42, str(training.id))
    assert model.card["engines"]["simpletuner"]["version"] == "3.1.6"


async def test_a_storage_that_fails_at_the_end_delays_them_and_not_the_model(
    training: Training, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell_trainer(resources, saves(tmp_path, 3), *success(tmp_path))

    async def fail(*_: object) -> None:
        raise StorageError("The storage does not answer.", code="storage_unreachable")

    monkeypatch.setattr(collecting, "_store", fail)
    async with on_duty(gpu_worker(resources)):
        assert await ended(training) == "completed"
    assert await found(training) == []
    monkeypatch.undo()

    await forget(resources)

    assert [row.step for row in await found(training)] == [3]
    assert not training.workdir.output.exists()


async def test_where_the_machine_is_gone_they_are_made_of_what_is_stored(
    training: Training, worker: Dispatcher, resources: Resources, tmp_path: Path
) -> None:
    tell_trainer(resources, *map(trains, (1, 2, 3)), saves(tmp_path, 3), WAIT)
    async with on_duty(worker):
        await has(training, 3)
        (first,) = await found(training)
        async with resources.sessions.begin() as session:
            await session.execute(sa.delete(TrainingCandidate))
        await training.cancel()
        await ended(training)
    shutil.rmtree(training.workdir.root)

    await forget(resources)

    (again,) = await found(training)
    assert again.sha256 == first.sha256
    assert again.loss == pytest.approx(first.loss)


async def test_a_lora_that_does_not_fit_is_looked_at_once_and_nothing_of_it_is_kept(
    training: Training, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, path = saves(tmp_path, 3, tiny_lora(name="transformer.nowhere.to_q"))
    shutil.copytree(path, training.workdir.checkpoint(3))
    await collect(resources, training.id, training.workdir)
    monkeypatch.setattr(collecting, "_make", None)
    await collect(resources, training.id, training.workdir)
    assert await found(training) == []
    async with resources.sessions() as session:
        assert await candidates.done_steps(session, training.id) == {3}
        assert not (await session.scalars(sa.select(UnrecordedFile))).all()


async def test_one_that_the_trainer_may_not_have_finished_is_left_for_later(
    training: Training, resources: Resources, tmp_path: Path
) -> None:
    for step in (3, 6):
        shutil.copytree(saves(tmp_path, step)[1], training.workdir.checkpoint(step))
    await collect(resources, training.id, training.workdir, newest=3)
    assert [row.step for row in await found(training)] == [3]


async def test_what_an_extended_training_began_with_is_its_parents(
    training: Training, resources: Resources, tmp_path: Path
) -> None:
    for step in (3, 6):
        shutil.copytree(saves(tmp_path, step)[1], training.workdir.checkpoint(step))
    async with resources.sessions.begin() as session:
        parent = TrainingSession(name="parent")
        session.add(parent)
        row = await session.get_one(TrainingSession, training.id)
        row.start_step, row.parent_session_id = 3, parent.id
    await collect(resources, training.id, training.workdir)
    (row_of_6,) = await found(training)
    assert (row_of_6.step, row_of_6.card["session"]["parent_id"]) == (6, str(parent.id))


async def test_of_two_who_make_the_same_one_stays_and_the_other_leaves_no_file(
    training: Training, resources: Resources, tmp_path: Path
) -> None:
    shutil.copytree(saves(tmp_path, 3)[1], training.workdir.checkpoint(3))
    await asyncio.gather(*(collect(resources, training.id, training.workdir) for _ in range(3)))
    (row,) = await found(training)
    storage = resources.settings.masuka_data_dir / "storage"
    assert [path.name for path in (storage / "trainings").rglob("*.safetensors")] == [row.file_name]


async def test_without_the_base_model_nothing_is_made_and_nothing_fails(
    training: Training, resources: Resources, tmp_path: Path
) -> None:
    shutil.copytree(saves(tmp_path, 3)[1], training.workdir.checkpoint(3))
    bare = replace(resources, settings=with_values(resources.settings, masuka_engines_dir=tmp_path / "none"))
    await collect(bare, training.id, training.workdir)
    assert await found(training) == []


async def test_a_trainer_that_begins_anew_takes_the_place_of_what_was_there(
    training: Training, worker: Dispatcher, resources: Resources, tmp_path: Path
) -> None:
    tell_trainer(resources, saves(tmp_path, 3), WAIT)
    async with on_duty(worker):
        await has(training, 3)
        (first,) = await found(training)
        await training.cancel()
        await ended(training)
        await forget(resources)
        tell_trainer(resources, saves(tmp_path / "again", 3, tiny_lora(rank=5)), WAIT)
        again = await training.retry()

        async def replaced() -> bool:
            return [row.rank for row in await found(training)] == [5]

        await until_async(replaced, 20)
        await again.cancel()
        await ended(again)
    async with resources.sessions() as session:
        starts = await session.scalar(
            sa.select(col(TrainingSession.made_with)).where(col(TrainingSession.id) == training.id)
        )
        gone = await session.get_one(TrainingCandidate, first.id)
    assert [start["from_step"] for start in starts or []] == [0]
    assert gone.storage_path is None
