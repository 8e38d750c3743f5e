"""LoRAs of training checkpoints are there to be chosen for a time, and take no more than so much of the disk."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from api.models import TrainingSession
from api.models.base import utcnow
from api.resources import Resources
from api.services import candidates
from api.tasks.tidy_candidates import BYTES_PER_GB, tidy_candidates
from tests.candidates import add_candidate
from tests.service import with_values


async def _training(resources: Resources, status: str, days_ago: float | None, *steps: int) -> TrainingSession:
    ended = None if days_ago is None else utcnow() - timedelta(days=days_ago)
    row = TrainingSession(name="me", status=status, completed_at=ended)
    async with resources.sessions.begin() as session:
        session.add(row)
    for step in steps:
        await add_candidate(resources.sessions, resources.storage, row.id, step, size_bytes=BYTES_PER_GB)
    return row


async def _left(resources: Resources, *trainings: TrainingSession) -> list[list[int]]:
    async with resources.sessions() as session:
        return [[row.step for row in await candidates.of_session(session, each.id)] for each in trainings]


def _having(resources: Resources, **values: Any) -> Resources:
    return replace(resources, settings=with_values(resources.settings, **values))


async def test_they_go_so_many_days_after_the_end_of_their_training(resources: Resources) -> None:
    trainings = [
        await _training(resources, "completed", 5, 250),
        await _training(resources, "failed", 4.9, 250),
        await _training(resources, "training", None, 250),
    ]
    await tidy_candidates(_having(resources, masuka_checkpoint_lora_days=5))
    assert await _left(resources, *trainings) == [[], [250], [250]]


async def test_above_the_limit_those_of_the_oldest_trainings_go_and_no_running_ones(resources: Resources) -> None:
    trainings = [
        await _training(resources, "completed", 3, 250, 500),
        await _training(resources, "cancelled", 2, 250, 500),
        await _training(resources, "training", None, 250, 500),
    ]
    enough = _having(resources, masuka_checkpoint_lora_gb=6)
    await tidy_candidates(enough)
    assert await _left(resources, *trainings) == [[250, 500]] * 3

    await tidy_candidates(_having(resources, masuka_checkpoint_lora_gb=3.5))
    assert await _left(resources, *trainings) == [[], [500], [250, 500]]

    await tidy_candidates(_having(resources, masuka_checkpoint_lora_gb=1))
    assert await _left(resources, *trainings) == [[], [], [250, 500]]
