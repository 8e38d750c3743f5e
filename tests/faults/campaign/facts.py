"""What is true after a campaign, read from the database, the storage and the machine; judged elsewhere."""

import asyncio
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import sqlalchemy as sa
from PIL import Image, UnidentifiedImageError
from sqlmodel import SQLModel

from api.db import Sessions, open_database
from api.errors import MasukaError
from api.models import DatasetImage, GeneratedAsset, Job, Model, TrainingSession
from api.settings import Settings
from api.storage import Storage, open_storage
from api.trainer.lora import check_lora
from tests.faults.campaign.bucket import keys_in

PNG_END = b"IEND\xaeB`\x82"
ANNOUNCED = "unrecorded_file"
"""The table of files that are being stored: to be in there alone is to be nobody's."""


@dataclass(frozen=True, slots=True)
class JobFact:
    id: str
    kind: str
    status: str
    attempt: int
    max_attempts: int
    error_code: str | None
    cancel_asked: bool
    created: float
    finished: float | None
    retry_of: str | None = None


@dataclass(frozen=True, slots=True)
class SubjectFact:
    """A picture or a training: the row that a job is for."""

    id: str
    kind: str
    job_id: str
    status: str
    name: str
    """The prompt of a picture, the name of a training."""
    seed: int | None = None
    key: str | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class FileFact:
    sha256: str
    whole: bool
    """A picture that decodes, a LoRA that parses, anything else."""
    prompt: str = ""
    seed: int | None = None
    """What the picture itself says that it is of."""


@dataclass(frozen=True, slots=True)
class NamedFile:
    """A row, neither picture nor training, that names a file."""

    key: str
    sha256: str
    session_id: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    jobs: dict[str, JobFact] = field(default_factory=dict)
    subjects: dict[str, SubjectFact] = field(default_factory=dict)
    models: tuple[NamedFile, ...] = ()
    dataset_images: tuple[NamedFile, ...] = ()
    files: dict[str, FileFact] = field(default_factory=dict)
    """Everything in the storage, by key."""
    nobodys: tuple[str, ...] = ()
    """Keys in the storage that no row names."""
    left_over: tuple[str, ...] = ()
    """Temporary files that nobody will ever come back for."""
    processes: tuple[str, ...] = ()
    """Those that live on after the end."""


async def collect(settings: Settings, processes: tuple[str, ...]) -> Facts:
    """Of a service that has ended."""
    async with open_database(settings) as sessions, open_storage(settings) as storage:
        jobs, subjects, models, images = await _rows(sessions)
        files = {key: await _file(storage, key) for key in await keys_in(settings)}
        nobodys = await nobodys_files(settings, sessions)
    return Facts(jobs, subjects, models, images, files, tuple(nobodys), tuple(left_over(settings)), processes)


async def nobodys_files(settings: Settings, sessions: Sessions) -> list[str]:
    """Keys in the storage that no row of any table names."""
    keys, named = await keys_in(settings), set[str]()
    async with sessions() as session:
        for table in SQLModel.metadata.sorted_tables:
            if table.name != ANNOUNCED:
                for row in await session.execute(sa.select(table)):
                    named.update(_texts(list(row)))
    return sorted(set(keys) - named)


def _texts(value: object) -> Iterator[str]:
    """Every text in a row's values, JSON included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts(list(value.values()))
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


async def _rows(
    sessions: Sessions,
) -> tuple[dict[str, JobFact], dict[str, SubjectFact], tuple[NamedFile, ...], tuple[NamedFile, ...]]:
    async with sessions() as session:
        jobs = [_job(row) for row in await session.scalars(sa.select(Job))]
        pictures = [_picture(row) for row in await session.scalars(sa.select(GeneratedAsset))]
        trainings = [_training(row) for row in await session.scalars(sa.select(TrainingSession))]
        models = [
            NamedFile(
                row.storage_path,
                row.model_metadata["sha256"],
                str(row.training_session_id) if row.training_session_id else None,
            )
            for row in await session.scalars(sa.select(Model))
        ]
        images = [NamedFile(row.key, row.sha256) for row in await session.scalars(sa.select(DatasetImage))]
    subjects = {fact.id: fact for fact in (*pictures, *trainings)}
    return {job.id: job for job in jobs}, subjects, tuple(models), tuple(images)


def _job(row: Job) -> JobFact:
    return JobFact(
        str(row.id),
        row.kind,
        row.status,
        row.attempt,
        row.max_attempts,
        row.error_code,
        row.cancel_requested_at is not None,
        row.created_at.timestamp(),
        row.finished_at.timestamp() if row.finished_at else None,
        str(row.retry_of) if row.retry_of else None,
    )


def _picture(row: GeneratedAsset) -> SubjectFact:
    output = row.generation_config.get("output") or {}
    seed = row.generation_config["seed"]
    return SubjectFact(
        str(row.id), "image", str(row.task_id), row.status, row.prompt, seed, row.storage_path, output.get("sha256")
    )


def _training(row: TrainingSession) -> SubjectFact:
    return SubjectFact(str(row.id), "training", str(row.task_id), row.status, row.name)


# ---- files -------------------------------------------------------------------------------------------------------


async def _file(storage: Storage, key: str) -> FileFact:
    data = b"".join([chunk async for chunk in storage.open(key)])
    sha256 = hashlib.sha256(data).hexdigest()
    if key.startswith("assets/"):
        return await asyncio.to_thread(_picture_file, data, sha256)
    if key.startswith("models/"):
        return FileFact(sha256, await asyncio.to_thread(_is_lora, data))
    return FileFact(sha256, True)


def _picture_file(data: bytes, sha256: str) -> FileFact:
    if not data.endswith(PNG_END):  # Pillow reads on without it
        return FileFact(sha256, False)
    try:
        with Image.open(BytesIO(data), formats=("PNG",)) as image:
            image.load()
            graph: dict[str, Any] = json.loads(image.info["prompt"])
    except (UnidentifiedImageError, OSError, SyntaxError, KeyError, ValueError):
        return FileFact(sha256, False)
    texts = [node["inputs"].get("text", "") for node in graph.values() if node["class_type"] == "CLIPTextEncode"]
    seeds = [node["inputs"]["seed"] for node in graph.values() if node["class_type"] == "KSampler"]
    return FileFact(sha256, True, " ".join(texts), seeds[0])


def _is_lora(data: bytes) -> bool:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "lora.safetensors"
        path.write_bytes(data)
        try:
            check_lora(path)
        except MasukaError:
            return False
    return True


def left_over(settings: Settings) -> list[str]:
    """Scratch folders, half-written files, ComfyUI's own copies, and trainings that were not tidied up."""
    data = settings.masuka_data_dir
    folders = [data / "tmp", data / "storage" / ".incoming", data / "comfyui" / "output", data / "comfyui" / "temp"]
    found = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    found += [path for path in (data / "comfyui" / "models" / "loras").rglob("*") if path.suffix != ".safetensors"]
    return sorted(str(path.relative_to(data)) for path in found)
