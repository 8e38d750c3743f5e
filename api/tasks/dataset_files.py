"""The files of a dataset where the trainer reads them."""

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from api.domain.caption import training_caption
from api.errors import EngineError
from api.few_at_once import few_at_once
from api.models import DatasetPicture, TrainingSession
from api.storage import Storage
from api.tasks.attempt import Attempt
from api.tasks.patience import patiently

PARALLEL_FETCHES = 8


async def provide_dataset(
    attempt: Attempt, images: Sequence[DatasetPicture], folder: Path, row: TrainingSession
) -> None:
    """The pictures with their captions, under names of ours.

    Raises EngineError `dataset_gone`, `dataset_files_missing` or `dataset_files_damaged`.
    """
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    if not images:
        raise EngineError(
            "The dataset of this training is gone.",
            code="dataset_gone",
            hint="Upload it again and start a new training.",
        )

    async def provide(image: DatasetPicture) -> None:
        path = folder / image.key.rpartition("/")[2]
        caption = training_caption(image.caption, row.config["trigger_word"], row.name)
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")
        if not path.exists():
            await patiently(attempt, partial(fetch_image, attempt.resources.storage, image, path))

    await few_at_once(PARALLEL_FETCHES, provide, images)


async def fetch_image(storage: Storage, image: DatasetPicture, path: Path) -> None:
    """A picture of the dataset, as it was uploaded, or nothing.

    Raises EngineError `dataset_files_missing` or `dataset_files_damaged`, and StorageError.
    """
    try:
        stored = await storage.get_file(image.key, path)
    except FileNotFoundError as exc:
        raise _damaged("dataset_files_missing", f"{image.filename} is gone from the storage.", image) from exc
    if stored.sha256 != image.sha256:
        await asyncio.to_thread(path.unlink)
        raise _damaged("dataset_files_damaged", f"{image.filename} has changed in the storage.", image)


def _damaged(code: str, detail: str, image: DatasetPicture) -> EngineError:
    return EngineError(detail, code=code, value=image.key, hint="Upload the dataset again.")
