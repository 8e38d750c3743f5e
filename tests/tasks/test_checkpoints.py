"""Training checkpoints are stored as they appear, and a trainer resumes from the newest sound one, wherever it is."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from api.models import TrainingCheckpoint
from api.resources import Resources
from api.services import checkpoints
from api.settings import Settings
from api.tasks import checkpoints as keeping
from api.tasks.dispatch import Dispatcher
from api.tasks.forget import forget
from api.trainer import process
from api.trainer.checkpoint import damage
from api.trainer.outcome import final_state
from tests.service import with_values
from tests.tasks.stage import on_duty, published
from tests.tasks.trainings import Training, begin, ended, gpu_worker, success, tell_trainer, waits, with_fake_trainer
from tests.tasks.troubled import Troubled
from tests.trainer.checkpoint_files import STATE, checkpoint
from tests.waiting import until, until_async

WAIT = ("wait", None)
Action = tuple[str, Any]


@pytest.fixture
def settings(settings: Settings, engines_dir: Path, tmp_path: Path) -> Settings:
    return with_fake_trainer(settings, engines_dir, tmp_path)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "PAUSES_SECONDS", (0.05,))


@pytest.fixture
async def training(resources: Resources, tmp_path: Path) -> AsyncIterator[Training]:
    begun = await begin(resources, tmp_path, steps=12, checkpoints_kept=2)
    yield begun
    handle = process.find(begun.workdir)
    if handle is not None:
        await handle.stop(0)


@pytest.fixture
def worker(resources: Resources) -> Dispatcher:
    return gpu_worker(resources)


def saves(folder: Path, step: int) -> Action:
    return "checkpoint", str(checkpoint(folder / "ready", step))


def at_step(step: int, **data: int) -> Action:
    progress = {"current": step, "total": 12, "metrics": {"loss": 1 / step}}
    return "post", {"type": "training.status", "data": {"status": "running", **data}, "progress": progress}


async def rows(training: Training) -> list[TrainingCheckpoint]:
    async with training.resources.sessions() as session:
        return await checkpoints.of_session(session, training.id)


async def stored(training: Training, *steps: int) -> None:
    """Until exactly these steps are, and the storage holds their files and no others."""

    async def are_stored() -> bool:
        found = await rows(training)
        keys = {file["key"] for row in found for file in row.files}
        return [row.step for row in found if row.stored_at] == list(steps) and keys == files(training)

    await until_async(are_stored)


def files(training: Training) -> set[str]:
    """The keys of all that the storage has of the training's checkpoints."""
    root = training.resources.settings.masuka_data_dir / "storage"
    return {str(path.relative_to(root)) for path in (root / "trainings").rglob("*") if path.is_file()}


def damage_stored(training: Training, row: TrainingCheckpoint) -> None:
    (key,) = (file["key"] for file in row.files if file["name"] == "optimizer.bin")
    path = training.resources.settings.masuka_data_dir / "storage" / key
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def loss_at(step: int, loss: float) -> Action:
    progress = {"current": step, "total": 12, "metrics": {"loss": loss}}
    return "post", {"type": "training.status", "data": {"status": "running"}, "progress": progress}


async def are_stored(training: Training, steps: set[int]) -> bool:
    return steps <= {row.step for row in await rows(training) if row.stored_at}


def kill_trainer(training: Training) -> None:
    handle = process.find(training.workdir)
    assert handle is not None
    handle.kill_trainer()


async def steps_told(training: Training, attempt: int) -> list[int]:
    told = await published(training.resources, training.job_id)
    return [event["step"] for event in told if event["attempt"] == attempt and event["status"] == "training"]


# ---- to the storage ----------------------------------------------------------------------------------------------


async def test_each_is_stored_whole_and_the_newest_are_kept(
    training: Training, worker: Dispatcher, resources: Resources, tmp_path: Path
) -> None:
    tell_trainer(
        resources, saves(tmp_path, 3), ("wait_for", "6"), saves(tmp_path, 6), ("wait_for", "9"), saves(tmp_path, 9),
        WAIT,
    )  # fmt: skip
    async with on_duty(worker):
        await stored(training, 3)
        (training.workdir.root / "6").touch()
        await stored(training, 6, 3)
        (training.workdir.root / "9").touch()
        await stored(training, 9, 6)
        await training.cancel()
        assert await ended(training) == "cancelled"

    newest = (await rows(training))[0]
    assert {file["name"] for file in newest.files} == STATE
    for file in newest.files:
        got = await resources.storage.get_file(file["key"], tmp_path / "got")
        assert (got.size, got.sha256) == (file["size"], file["sha256"])
        assert (tmp_path / "got").read_bytes() == (training.workdir.checkpoint(9) / file["name"]).read_bytes()
    assert newest.size_bytes == sum(file["size"] for file in newest.files)


async def test_a_storage_that_does_not_answer_is_waited_for_while_steps_are_followed(
    training: Training, resources: Resources, tmp_path: Path
) -> None:
    tell_trainer(resources, saves(tmp_path, 3), at_step(4), ("wait_for", "on"), at_step(5), WAIT)
    troubled = Troubled(resources.storage, failures=3)
    async with on_duty(gpu_worker(replace(resources, storage=troubled))):  # type: ignore[arg-type]
        await until(lambda: troubled.puts >= 2)
        (training.workdir.root / "on").touch()
        await stored(training, 3)

        async def followed() -> bool:
            return 5 in await steps_told(training, 1)

        await until_async(followed)
    assert troubled.puts == 3 + len(STATE)


async def test_one_that_is_pruned_while_it_is_stored_gives_way_to_the_newer(
    training: Training, resources: Resources, tmp_path: Path
) -> None:
    tell_trainer(resources, saves(tmp_path, 3), ("wait_for", "on"), ("prune", "checkpoint-3"), saves(tmp_path, 6), WAIT)
    slow = Troubled(resources.storage, go_on=asyncio.Event())
    assert slow.go_on is not None
    async with on_duty(gpu_worker(replace(resources, storage=slow))):  # type: ignore[arg-type]
        await until(lambda: slow.puts == 1)
        (training.workdir.root / "on").touch()
        await until(training.workdir.checkpoint(6).exists)
        slow.go_on.set()
        await stored(training, 6)


async def test_a_damaged_one_is_not_stored(
    training: Training, worker: Dispatcher, resources: Resources, tmp_path: Path
) -> None:
    damaged = saves(tmp_path, 3)
    (Path(damaged[1]) / "scheduler.bin").write_bytes(b"")
    tell_trainer(resources, damaged, saves(tmp_path, 6), WAIT)
    async with on_duty(worker):
        await stored(training, 6)


async def test_an_upload_that_was_cut_off_is_finished_by_the_next_worker_and_leaves_nothing(
    training: Training, worker: Dispatcher, resources: Resources, tmp_path: Path
) -> None:
    tell_trainer(resources, saves(tmp_path, 3), WAIT)
    hanging = Troubled(resources.storage, hangs=True)
    async with on_duty(gpu_worker(replace(resources, storage=hanging))):  # type: ignore[arg-type]
        await until(lambda: len(files(training)) == 1)
    (cut_off,) = await rows(training)
    assert cut_off.stored_at is None

    async with on_duty(worker):
        await stored(training, 3)
    assert cut_off.id not in [row.id for row in await rows(training)]


async def test_the_best_and_every_so_many_steps_stay_beside_the_newest(resources: Resources, tmp_path: Path) -> None:
    rule = {"checkpoints_kept": 2, "checkpoints_best": 1, "checkpoints_every": 6}
    training = await begin(resources, tmp_path, steps=12, **rule)
    losses = {2: 0.9, 4: 0.1, 6: 0.9, 8: 0.9, 10: 0.9, 11: 0.9}
    acts = [(loss_at(step, loss), saves(tmp_path, step), ("wait_for", str(step))) for step, loss in losses.items()]
    tell_trainer(resources, *(act for each in acts for act in each))
    async with on_duty(gpu_worker(resources)):
        for step, there in zip(losses, [(2,), (4, 2), (6, 4), (8, 6, 4), (10, 8, 6, 4), (11, 10, 6, 4)], strict=True):
            await stored(training, *there)
            (training.workdir.root / str(step)).touch()
        assert await ended(training) == "failed"
    assert {row.step: row.loss for row in await rows(training)} == pytest.approx(
        {4: 0.5, 6: 1.9 / 3, 10: 3.7 / 5, 11: 4.6 / 6}
    )


async def test_one_that_is_prized_is_stored_after_newer_ones_while_it_is_there(
    resources: Resources, tmp_path: Path
) -> None:
    training = await begin(resources, tmp_path, steps=12, checkpoints_every=6)
    tell_trainer(resources, *(saves(tmp_path, step) for step in (3, 6, 8, 9)), WAIT)
    slow = Troubled(resources.storage, go_on=asyncio.Event())
    assert slow.go_on is not None
    async with on_duty(gpu_worker(replace(resources, storage=slow))):  # type: ignore[arg-type]
        await until(training.workdir.checkpoint(9).exists)
        await until(lambda: slow.puts == 1)
        slow.go_on.set()
        await until_async(lambda: are_stored(training, {9, 6}))
        assert not await are_stored(training, {8})
        await training.cancel()
        await ended(training)


async def test_a_completed_training_keeps_its_last_for_a_time_and_nothing_on_this_disk(
    training: Training, worker: Dispatcher, resources: Resources, tmp_path: Path
) -> None:
    tell_trainer(resources, saves(tmp_path, 3), ("wait_for", "on"), saves(tmp_path, 6), *success(tmp_path))
    async with on_duty(worker):
        await stored(training, 3)
        (training.workdir.root / "on").touch()
        assert await ended(training) == "completed"

    await forget(resources)

    await stored(training, 6)
    assert not any(path.exists() for path in training.workdir.working_state)

    await forget(replace(resources, settings=with_values(resources.settings, masuka_keep_completed_days=0)))

    assert await rows(training) == []
    assert files(training) == set()


# ---- and back ----------------------------------------------------------------------------------------------------


async def test_a_trainer_that_died_resumes_from_the_newest_without_a_jump(
    training: Training, worker: Dispatcher, resources: Resources, tmp_path: Path
) -> None:
    tell_trainer(resources, at_step(6), saves(tmp_path, 6), at_step(8), WAIT)
    async with on_duty(worker):
        await stored(training, 6)
        await until(lambda: waits(training))
        tell_trainer(resources, ("resume", 9), *success(tmp_path)[1:])
        kill_trainer(training)
        assert await ended(training) == "completed"
    told = await published(resources, training.job_id)
    assert [event["step"] for event in told if event["message"] == "Resuming from step 6"]
    resumed = [event for event in told if event["attempt"] == 2]
    after = [event["step"] for event in resumed[[e["message"] for e in resumed].index("Resuming from step 6") :]]
    assert after == sorted(after)
    assert min(after) == 6
    assert all(event["progress"] >= 49 for event in resumed if event["step"] >= 6)


async def resumes_at(training: Training, step: int) -> None:
    """Until the second trainer has said so."""
    await until(lambda: training.runs == 2 and final_state(training.workdir).resumed_at == step)
    assert damage(training.workdir.checkpoint(step), step) is None


@pytest.fixture
async def two_stored(
    training: Training, worker: Dispatcher, resources: Resources, tmp_path: Path
) -> AsyncIterator[Training]:
    """Steps 3 and 6 are in storage, the trainer waits; the next one resumes and waits."""
    tell_trainer(resources, saves(tmp_path, 3), ("wait_for", "6"), saves(tmp_path, 6), WAIT)
    async with on_duty(worker):
        await stored(training, 3)
        (training.workdir.root / "6").touch()
        await stored(training, 6, 3)
        tell_trainer(resources, ("resume", 12), WAIT)
        yield training


async def test_a_damaged_newest_one_is_fetched_again(two_stored: Training) -> None:
    (two_stored.workdir.checkpoint(6) / "optimizer.bin").write_bytes(b"half")
    kill_trainer(two_stored)

    await resumes_at(two_stored, 6)
    await stored(two_stored, 6, 3)


async def test_a_new_machine_fetches_the_newest(two_stored: Training) -> None:
    kill_trainer(two_stored)
    shutil.rmtree(two_stored.workdir.output)

    await resumes_at(two_stored, 6)


async def test_a_damaged_stored_one_gives_way_to_the_next_older(two_stored: Training) -> None:
    damage_stored(two_stored, (await rows(two_stored))[0])
    kill_trainer(two_stored)
    shutil.rmtree(two_stored.workdir.output)

    await resumes_at(two_stored, 3)
    await stored(two_stored, 3)


async def test_a_retry_resumes_what_was_cancelled(two_stored: Training) -> None:
    await two_stored.cancel()
    assert await ended(two_stored) == "cancelled"
    shutil.rmtree(two_stored.workdir.root)
    again = await two_stored.retry()
    await until(lambda: final_state(again.workdir).resumed_at == 6)
    await again.cancel()
    assert await ended(again) == "cancelled"


# ---- a worker that comes back ------------------------------------------------------------------------------------


async def test_a_worker_that_comes_back_tells_the_steps_it_missed_and_never_an_earlier_one(
    training: Training, worker: Dispatcher, resources: Resources
) -> None:
    tell_trainer(resources, at_step(1), at_step(2), ("wait_for", "on"), at_step(3), at_step(4), at_step(5), WAIT)

    async def told_so_far() -> bool:
        return 1 in await steps_told(training, 1)

    async with on_duty(worker):
        await until_async(told_so_far)
    (training.workdir.root / "on").touch()
    await until(lambda: final_state(training.workdir).step == 5)

    async with on_duty(gpu_worker(resources)):

        async def caught_up() -> bool:
            return 5 in await steps_told(training, 1)

        await until_async(caught_up)
    told = [event for event in await published(resources, training.job_id) if event["status"] == "training"]
    assert [event["step"] for event in told] == sorted(event["step"] for event in told)
    assert {event["step"]: event["loss"] for event in told if event["loss"]} == {n: 1 / n for n in range(1, 6)}
