"""A completed training goes on from its last working state, which stays for whoever counts on it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from api.models import Model
from api.resources import Resources
from api.services import checkpoints, continuing, trainings
from api.services.continuing import ExtendRequest
from api.services.training_folder import workdir_of
from api.settings import Settings
from api.tasks.forget import forget
from api.trainer import process
from api.trainer.outcome import final_state
from tests.job_rows import read
from tests.service import with_values
from tests.tasks.stage import on_duty
from tests.tasks.trainings import Training, begin, ended, gpu_worker, success, tell_trainer, with_fake_trainer
from tests.tasks.troubled import Troubled
from tests.trainer.checkpoint_files import checkpoint
from tests.waiting import until, until_async


@pytest.fixture
def settings(settings: Settings, engines_dir: Path, tmp_path: Path) -> Settings:
    return with_fake_trainer(settings, engines_dir, tmp_path)


@pytest.fixture
async def parent(resources: Resources, tmp_path: Path) -> AsyncIterator[Training]:
    """Completed, with a training checkpoint of step 6 whose upload was not awaited."""
    training = await begin(resources, tmp_path, steps=6)
    saves = ("checkpoint", str(checkpoint(tmp_path / "ready", 6)))
    tell_trainer(resources, saves, *success(tmp_path))
    async with on_duty(gpu_worker(resources)):
        assert await ended(training) == "completed"
    yield training
    handle = process.find(training.workdir)
    if handle is not None:
        await handle.stop(0)


async def extended(parent: Training, steps: int = 4) -> Training:
    resources = parent.resources
    async with resources.sessions.begin() as session:
        row = await continuing.extend(session, resources.settings, {"flux-tiny"}, parent.id, ExtendRequest(steps=steps))
        job_id = trainings.task_of(row)
    return replace(parent, id=row.id, job_id=job_id, workdir=workdir_of(resources.settings, row.id))


async def stored_steps(training: Training) -> list[int]:
    async with training.resources.sessions() as session:
        return [row.step for row in await checkpoints.stored(session, training.id)]


def after_a_week(resources: Resources) -> Any:
    """Nothing is kept for any time."""
    return replace(
        resources, settings=with_values(resources.settings, masuka_keep_completed_days=0, masuka_keep_failed_days=0)
    )


async def test_it_goes_on_where_the_parent_ended_and_both_loras_stay(
    parent: Training, resources: Resources, tmp_path: Path
) -> None:
    assert await stored_steps(parent) == [6]
    child = await extended(parent)
    tell_trainer(resources, ("resume", 10), *success(tmp_path)[1:])
    async with on_duty(gpu_worker(resources)):
        assert await ended(child) == "completed"

    assert final_state(child.workdir).resumed_at == 6
    assert final_state(child.workdir).total_steps == 10
    async with resources.sessions() as session:
        models = (await session.scalars(sa.select(Model))).all()
    assert {model.training_session_id for model in models} == {parent.id, child.id}


async def test_a_worker_that_dies_while_it_stores_the_last_state_costs_nothing(
    resources: Resources, tmp_path: Path
) -> None:
    training = await begin(resources, tmp_path, steps=6)
    saves = ("checkpoint", str(checkpoint(tmp_path / "ready", 6)))
    tell_trainer(resources, saves, ("wait_for", "on"), *success(tmp_path))
    hanging = Troubled(resources.storage, hangs=True)
    async with on_duty(gpu_worker(replace(resources, storage=hanging))):  # type: ignore[arg-type]
        await until(lambda: hanging.puts == 1)  # while it trains
        (training.workdir.root / "on").touch()
        await until(lambda: hanging.puts == 2, 30)  # at its end
    assert await stored_steps(training) == []

    async with on_duty(gpu_worker(resources)):
        assert await ended(training) == "completed"
    assert await stored_steps(training) == [6]
    assert training.runs == 1


async def test_the_parents_state_stays_as_long_as_a_child_counts_on_it(
    parent: Training, resources: Resources, tmp_path: Path
) -> None:
    child = await extended(parent)
    await forget(after_a_week(resources))
    assert await stored_steps(parent) == [6]

    tell_trainer(resources, ("resume", 10), ("wait", None))
    async with on_duty(gpu_worker(resources)):
        await until_async(lambda: is_stored(child))
        await child.cancel()
        assert await ended(child) == "cancelled"
    await forget(after_a_week(resources))
    assert await stored_steps(parent) == []
    assert await stored_steps(child) == []


async def is_stored(training: Training) -> bool:
    return await stored_steps(training) == [6]


async def test_a_state_that_is_gone_after_all_is_said_and_nothing_begins_anew_in_silence(
    parent: Training, resources: Resources
) -> None:
    child = await extended(parent)
    async with resources.sessions.begin() as session:
        await checkpoints.unmark(session, parent.id)
    tell_trainer(resources, ("wait", None))
    async with on_duty(gpu_worker(resources)):
        assert await ended(child) == "failed"
    assert (await read(resources.sessions, child.job_id)).error_code == "training_state_gone"
    assert child.runs == 0
