"""A training reads the dataset as it was when it was asked for, whatever was done to it since."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.domain.job import Queue
from api.models import TrainingSession
from api.resources import Resources
from api.services import captions, dataset_images, datasets
from api.services.captions import NewCaption
from api.settings import Settings
from api.tasks.reconcile import remove_leftovers
from api.trainer import process
from tests.service import png
from tests.tasks.stage import on_duty
from tests.tasks.trainings import Training, begin, ended, gpu_worker, tell_trainer, waits, with_fake_trainer
from tests.waiting import until

WAIT = ("wait", None)


@pytest.fixture
def settings(settings: Settings, engines_dir: Path, tmp_path: Path) -> Settings:
    return with_fake_trainer(settings, engines_dir, tmp_path)


@pytest.fixture
async def training(resources: Resources, tmp_path: Path) -> AsyncIterator[Training]:
    begun = await begin(resources, tmp_path, trigger_word="ohwx")
    yield begun
    handle = process.find(begun.workdir)
    if handle is not None:
        await handle.stop(0)


async def spoil(resources: Resources, training: Training) -> None:
    """Give the one image another caption, then remove it; whoever tidies up comes by."""
    async with resources.sessions.begin() as session:
        row = await session.get_one(TrainingSession, training.id)
        assert row.dataset_id is not None
        (image,) = await datasets.images(session, row.dataset_id)
        await captions.set_captions(session, row.dataset_id, {image.id: NewCaption("other")}, what="a test")
        await dataset_images.remove(session, row.dataset_id, image.id)
    await remove_leftovers(resources)


async def test_a_waiting_training_is_not_changed_by_changes_of_its_dataset(
    resources: Resources, training: Training
) -> None:
    await spoil(resources, training)
    tell_trainer(resources, WAIT)
    async with on_duty(gpu_worker(resources)):
        await until(lambda: waits(training))
        files = {path.name: path.read_bytes() for path in training.workdir.dataset.iterdir()}
        await training.cancel()
        assert await ended(training) == "cancelled"
    assert files == {"00000-a.png": png(), "00000-a.txt": b"ohwx"}


async def test_a_training_that_is_tried_again_is_not_changed_by_changes_meanwhile(
    resources: Resources, training: Training
) -> None:
    tell_trainer(resources, WAIT)
    async with on_duty(gpu_worker(resources)):
        await until(lambda: waits(training))
        await training.cancel()
        assert await ended(training) == "cancelled"
        await spoil(resources, training)
        (training.workdir.root / "waiting").unlink()
        for path in training.workdir.dataset.iterdir():
            path.unlink()
        again = await training.retry()
        await resources.queue.ring(Queue.GPU)
        await until(lambda: waits(again))
        assert (training.workdir.dataset / "00000-a.png").read_bytes() == png()
        await again.cancel()
        assert await ended(again) == "cancelled"
