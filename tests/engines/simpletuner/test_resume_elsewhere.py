"""The real SimpleTuner, whose machine goes away: another one with the same database and storage goes on."""

import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from api.models import Model
from api.resources import Resources, open_resources
from api.services import checkpoints
from api.settings import Settings
from api.services.training_folder import workdir_of
from api.trainer import process
from api.trainer.events import read_events
from api.trainer.messages import Step
from api.trainer.outcome import final_state
from tests.service import with_values
from tests.tasks.stage import on_duty
from tests.tasks.trainings import Training, begin, ended, gpu_worker
from tests.waiting import until, until_async

pytestmark = [pytest.mark.engines, pytest.mark.timeout(900)]

STEPS, INTERVAL = 8, 3
PATIENCE_SECONDS = 400
"""The trainer takes 15 s to start on a machine that does nothing else."""


@pytest.fixture
def settings(settings: Settings, trainer_engines_dir: Path) -> Settings:
    return with_values(settings, masuka_engines_dir=trainer_engines_dir)


async def stored_step(training: Training) -> int:
    async with training.resources.sessions() as session:
        return max((row.step for row in await checkpoints.stored(session, training.id)), default=0)


def stored_files(settings: Settings) -> Iterator[Path]:
    return (settings.masuka_data_dir / "storage").glob("trainings/*/*/*")


def lose_machine(training: Training) -> None:
    handle = process.find(training.workdir)
    assert handle is not None
    os.kill(handle.pid, signal.SIGKILL)  # and the kernel kills the trainer


def move(old: Settings, new: Settings) -> None:
    """What a machine has in common with the next one; the rest is lost."""
    new.make_data_dir()
    for path in (*old.masuka_data_dir.glob("masuka.db*"), old.masuka_data_dir / "storage"):
        path.rename(new.masuka_data_dir / path.name)
    shutil.rmtree(old.masuka_data_dir)


async def test_a_training_goes_on_where_there_is_nothing_but_the_database_and_the_storage(
    settings: Settings, valkey_url: str, tmp_path: Path
) -> None:
    async with open_resources(settings, valkey_url) as resources:
        choices = {"checkpoint_interval": INTERVAL, "rank": 4, "alpha": 2}
        training = await begin(resources, tmp_path, steps=STEPS, **choices)
        async with on_duty(gpu_worker(resources)):
            await until(lambda: list(stored_files(settings)), PATIENCE_SECONDS)
            await until_async(lambda: stored_step(training))
        reached, stored = final_state(training.workdir).step, await stored_step(training)
        lose_machine(training)
        handle = process.recall(training.workdir)
        assert handle is not None
        await until(handle.gone)
    elsewhere = with_values(settings, masuka_data_dir=tmp_path / "another machine" / "data")
    move(settings, elsewhere)

    async with open_resources(elsewhere, valkey_url) as resources:
        moved = replace(training, resources=resources, workdir=workdir_of(elsewhere, training.id))
        async with on_duty(gpu_worker(resources)):
            await until(moved.workdir.exit.exists, PATIENCE_SECONDS)
            assert await ended(moved) == "completed"
        assert await lora_count(resources) == 1
    said = [event.message for event in read_events(moved.workdir) if isinstance(event.message, Step)]
    trained = [step for step in said if step.loss is not None and step.step != stored]  # 4.8 tells where it resumes
    assert sorted({step.step for step in trained}) == list(range(stored + 1, STEPS + 1))
    assert {step.resumed_at for step in trained} == {stored}
    assert reached - stored <= INTERVAL


async def lora_count(resources: Resources) -> int:
    async with resources.sessions() as session:
        return await session.scalar(sa.select(sa.func.count()).select_from(Model)) or 0
