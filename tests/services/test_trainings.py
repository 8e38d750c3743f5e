"""Trainings: every choice is made, and written down, when they are asked for."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from api.db import Sessions
from api.domain.job import Kind
from api.errors import ConflictError, MasukaError, NotFoundError, UnavailableError
from api.models import Dataset, Job, TrainingSession
from api.services import trainings
from api.services.trainings import TrainFluxRequest
from api.settings import Settings


async def _dataset(sessions: Sessions, trigger_word: str | None = None, images: int = 3) -> UUID:
    dataset = Dataset(
        name="portraits",
        storage_path="datasets/x",
        image_count=images,
        is_processed=True,
        dataset_metadata={"trigger_word": trigger_word},
    )
    async with sessions.begin() as session:
        session.add(dataset)
    return dataset.id


async def _submit(sessions: Sessions, settings: Settings, dataset_id: UUID, **fields: Any) -> TrainingSession:
    request = TrainFluxRequest.model_validate({"dataset_id": str(dataset_id), **fields})
    async with sessions.begin() as session:
        return await trainings.submit(session, settings, {"flux-dev"}, request)


async def test_the_session_and_its_job_are_written_together(sessions: Sessions, settings: Settings) -> None:
    row = await _submit(sessions, settings, await _dataset(sessions))
    async with sessions() as session:
        job = await session.get(Job, trainings.task_of(row))
        assert job is not None
        assert (job.kind, job.created_at) == (Kind.TRAINING.value, row.created_at)


@pytest.mark.parametrize(
    ("asked", "of_the_dataset", "expected"),
    [(None, None, None), (None, "ohwx", "ohwx"), ("sks", "ohwx", "sks"), ("  ", "ohwx", "ohwx"), ("sks", None, "sks")],
)
async def test_the_trigger_word_is_the_requests_else_the_datasets(
    sessions: Sessions, settings: Settings, asked: str | None, of_the_dataset: str | None, expected: str | None
) -> None:
    row = await _submit(sessions, settings, await _dataset(sessions, of_the_dataset), trigger_word=asked)
    assert row.config["trigger_word"] == expected


@pytest.mark.parametrize(
    ("images", "base_model", "error"),
    [(0, "flux-dev", ConflictError), (3, "flux-tiny", UnavailableError), (3, "flux-dev", NotFoundError)],
)
async def test_a_refused_training_writes_nothing(
    sessions: Sessions, settings: Settings, images: int, base_model: str, error: type[MasukaError]
) -> None:
    dataset_id = await _dataset(sessions, images=images) if error is not NotFoundError else uuid4()
    request = TrainFluxRequest.model_validate({"dataset_id": str(dataset_id), "base_model": base_model})
    async with sessions.begin() as session:
        with pytest.raises(error):
            await trainings.submit(session, settings, {"flux-dev"}, request)
        assert not session.new
