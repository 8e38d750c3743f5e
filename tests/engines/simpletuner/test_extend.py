"""The real SimpleTuner trains with an option of its own, and trains on where a completed training ended."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from api.models import Model
from api.resources import Resources, open_resources
from api.services import continuing, trainings
from api.services.continuing import ExtendRequest
from api.settings import Settings
from api.services.training_folder import workdir_of
from api.trainer.events import read_events
from api.trainer.messages import Step
from tests.job_rows import read
from tests.tasks.stage import on_duty
from tests.tasks.trainings import Training, begin, ended, gpu_worker
from tests.waiting import until

pytestmark = [pytest.mark.engines, pytest.mark.timeout(900)]

PATIENCE_SECONDS = 400
"""The trainer takes 15 s to start on a machine that does nothing else."""
RATE, STEPS, MORE = 1e-3, 8, 4


@pytest.fixture
async def resources(settings: Settings, valkey_url: str) -> AsyncIterator[Resources]:
    async with open_resources(settings, valkey_url) as opened:
        yield opened


def trained_steps(training: Training) -> dict[int, float | None]:
    """The learning rate of each step that the newest run has trained."""
    said = [event.message for event in read_events(training.workdir) if isinstance(event.message, Step)]
    return {step.step: step.learning_rate for step in said if step.loss is not None}


async def train(training: Training) -> None:
    async with on_duty(gpu_worker(training.resources)):
        await until(training.workdir.exit.exists, PATIENCE_SECONDS)
        status = await ended(training, 60)
    assert status == "completed", (await read(training.resources.sessions, training.job_id)).error_message


async def test_an_option_of_its_own_is_in_effect_and_a_completed_training_goes_on(
    resources: Resources, tmp_path: Path
) -> None:
    choices = {"checkpoint_interval": 4, "rank": 4, "alpha": 2, "learning_rate": RATE, "lr_warmup_steps": 0}
    expert = {"lr_scheduler": "polynomial", "lr_power": 2.0, "loss_type": "huber", "max_grad_norm": 0.5}
    parent = await begin(resources, tmp_path, steps=STEPS, expert=expert, **choices)
    await train(parent)
    first = trained_steps(parent)
    assert list(first) == list(range(1, STEPS + 1))
    # The request's own field says that it is constant, and the trainer's own power would leave 0.57 of it here.
    assert first[STEPS // 2] == pytest.approx(RATE / 4, rel=0.6)

    async with resources.sessions.begin() as session:
        wish = ExtendRequest(steps=MORE)
        row = await continuing.extend(session, resources.settings, {"flux-tiny"}, parent.id, wish)
        job_id = trainings.task_of(row)
    assert row.start_step == STEPS
    child = replace(parent, id=row.id, job_id=job_id, workdir=workdir_of(resources.settings, row.id))
    await train(child)

    assert list(trained_steps(child)) == list(range(STEPS + 1, STEPS + MORE + 1))
    async with resources.sessions() as session:
        models = (await session.scalars(sa.select(Model))).all()
    assert {model.training_session_id: model.model_metadata["steps"] for model in models} == {
        parent.id: STEPS,
        child.id: STEPS + MORE,
    }
    assert len({model.model_metadata["sha256"] for model in models}) == 2
