"""Trainings whose trainer does as it is told, under the real runner, by a real GPU worker's kit."""

import json
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlmodel import col

from api.domain.job import Kind, Queue
from api.engines import receipt
from api.engines.receipt import Receipt
from api.models import Dataset, DatasetImage, TrainingSession
from api.resources import Resources
from api.services import jobs, trainings
from api.services.training_folder import workdir_of
from api.services.trainings import TrainFluxRequest
from api.settings import Settings
from api.tasks.dispatch import Dispatcher
from api.tasks.gpu import GpuKit
from api.tasks.train import train
from api.trainer import process
from api.trainer.workdir import Workdir
from tests.job_rows import read
from tests.service import png, tiny_lora, with_values
from tests.waiting import until_async

FAKE = Path(__file__).parent.parent / "trainer" / "fake_trainer.py"


@dataclass(frozen=True)
class Training:
    """One session, and what is left of its trainer."""

    resources: Resources
    id: UUID
    job_id: UUID
    workdir: Workdir

    @property
    def trainer_runs(self) -> bool:
        return process.find(self.workdir) is not None

    @property
    def runs(self) -> int:
        """How many times a trainer was started."""
        return len(list(self.workdir.root.glob("run*")))

    async def cancel(self) -> None:
        async with self.resources.sessions.begin() as session:
            await jobs.request_cancel(session, self.job_id)
        await self.resources.queue.announce_cancel(self.job_id)

    async def retry(self) -> "Training":
        async with self.resources.sessions.begin() as session:
            job = await jobs.retry(session, self.job_id)
        return replace(self, job_id=job.id)


def with_fake_trainer(settings: Settings, engines_dir: Path, folder: Path) -> Settings:
    """The real flux-tiny, and a trainer that does as it is told."""
    engines = folder / "engines"
    engines.mkdir()
    (engines / "flux-tiny").symlink_to(engines_dir / "flux-tiny")
    return with_values(settings, masuka_engines_dir=engines)


def gpu_worker(resources: Resources) -> Dispatcher:
    """Not on duty yet."""
    return Dispatcher(resources, Queue.GPU, {Kind.TRAINING: partial(train, GpuKit(resources))})


def tell_trainer(resources: Resources, *actions: tuple[str, Any], version: str = "3.1.6") -> None:
    """From its next start on the trainer does this."""
    env = {"FAKE_TRAINER": json.dumps(actions)}
    folder = resources.settings.engines_dir / "simpletuner"
    folder.mkdir(exist_ok=True)
    receipt.write(folder, Receipt("", version, str(FAKE), sys.executable, env))


def success(folder: Path) -> tuple[tuple[str, Any], ...]:
    """What a trainer does that trains flux-tiny well."""
    path = folder / "trained.safetensors"
    path.write_bytes(tiny_lora())
    return ("steps", 3), ("lora", str(path)), ("complete", None)


async def begin(resources: Resources, folder: Path, **choices: Any) -> Training:
    """A pending training on a dataset of one picture."""
    dataset = Dataset(name="me", storage_path="datasets/me", image_count=1, is_processed=True)
    picture = folder / "picture.png"
    picture.write_bytes(png())
    stored = await resources.storage.put_file(f"datasets/{dataset.id}/00000-a.png", picture)
    image = DatasetImage(
        dataset_id=dataset.id,
        position=0,
        filename="a.png",
        key=stored.key,
        sha256=stored.sha256,
        size_bytes=stored.size,
        width=64,
        height=64,
    )
    asked: dict[str, Any] = {"base_model": "flux-tiny", "steps": 3, "resolution": 64, **choices}
    request = TrainFluxRequest(dataset_id=dataset.id, **asked)
    async with resources.sessions.begin() as session:
        session.add(dataset)
        await session.flush()
        session.add(image)
        row = await trainings.submit(session, resources.settings, {"flux-tiny"}, request)
        job_id = trainings.task_of(row)
    return Training(resources, row.id, job_id, workdir_of(resources.settings, row.id))


async def status_of(training: Training) -> str | None:
    async with training.resources.sessions() as session:
        status: str | None = await session.scalar(
            sa.select(col(TrainingSession.status)).where(col(TrainingSession.id) == training.id)
        )
        return status


async def ended(training: Training, seconds: float = 20) -> str | None:
    """The session's status once its job has ended."""

    async def over() -> bool:
        return (await read(training.resources.sessions, training.job_id)).finished_at is not None

    await until_async(over, seconds)
    return await status_of(training)


def waits(training: Training) -> bool:
    """The trainer has come to where it waits, and its runner, which it may be faster than, has recorded it."""
    return (training.workdir.root / "waiting").exists() and training.trainer_runs
