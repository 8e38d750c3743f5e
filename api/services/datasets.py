"""Datasets: taken in whole or not at all, read, and deleted with their files."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import sqlalchemy as sa
import structlog
from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.db import Sessions, add_many
from api.domain.caption import with_trigger_word
from api.domain.intake import Intake, ReportEntry, TakenImage
from api.domain.job import Kind, Status
from api.domain.manifest import Manifest
from api.domain.text import JsonObject, Name
from api.domain.upload import IncomingFile, UploadLimits
from api.errors import ConflictError, NotFoundError, StorageError
from api.few_at_once import few_at_once
from api.intake.run import run_intake
from api.lease import NOBODY, new_owner, owner_is_dead
from api.models import (
    Captioning,
    Dataset,
    DatasetImage,
    DatasetThumbnail,
    DatasetVersion,
    DatasetVersionImage,
    TrainingSession,
)
from api.models.base import utcnow
from api.services import dataset_edits, measuring
from api.storage import Storage

log = structlog.get_logger(__name__)

PARALLEL_UPLOADS = 8
ABANDONED = timedelta(hours=24)
"""No upload takes this long: its process died on another host, such as a container that is no more."""
OWNER = "intake_owner"
"""In `dataset_metadata` while the files are being stored: who does it, so that a crash can be told from patience."""
CONTENT_TYPES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}


class DatasetForm(BaseModel):
    """The fields of the upload besides its files."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    trigger_word: Name | None = None
    caption_style: Name | None = None
    preprocessing_params: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class Created:
    dataset: Dataset
    report: tuple[ReportEntry, ...]


async def create(
    sessions: Sessions,
    session: AsyncSession,
    storage: Storage,
    limits: UploadLimits,
    form: DatasetForm,
    files: Sequence[IncomingFile],
    workdir: Path,
) -> Created:
    """Check every file, store what is usable, and only then show the dataset.

    The rows come first, marked with their owner, so that files of an upload that dies half-way can be found and
    removed; `session` is where the dataset becomes visible, in the caller's transaction.

    Raises InputError with nothing kept when no file is usable.
    """
    intake = await run_intake(files, limits, workdir)
    dataset, images = await asyncio.to_thread(_rows, _completed(form, intake.manifest), intake)
    async with sessions.begin() as first:
        first.add(dataset)
        await first.flush()
        await add_many(first, images)
    try:
        await store(storage, images, intake.images)
        await measuring.keep(sessions, {each.sha256: each.measured for each in intake.images if each.measured})
        await session.merge(_finished(dataset))
        await session.flush()
    except BaseException:
        await asyncio.shield(_discard(sessions, storage, dataset.id))
        raise
    return Created(dataset, intake.report)


def _completed(form: DatasetForm, manifest: Manifest | None) -> DatasetForm:
    """What an exported dataset was, unless the request says otherwise."""
    if manifest is None:
        return form
    said = form.model_dump(exclude_none=True)
    was = manifest.model_dump(include={"trigger_word", "caption_style", "preprocessing_params"})
    return DatasetForm.model_construct(**{**was, **said})


def _rows(form: DatasetForm, intake: Intake) -> tuple[Dataset, list[DatasetImage]]:
    dataset_id = uuid4()
    prefix = f"datasets/{dataset_id}"
    images = [
        image_row(dataset_id, number, f"{prefix}/{number:05d}-{image.path.name.lower()}", image, form.trigger_word)
        for number, image in enumerate(intake.images)
    ]
    if intake.manifest is not None:
        for row, image in zip(images, intake.images, strict=True):
            as_exported(row, image, intake.manifest, form.trigger_word)
    metadata = form.model_dump(exclude={"name"}) | {OWNER: new_owner()}
    dataset = Dataset(
        id=dataset_id,
        name=form.name,
        storage_path=prefix,
        image_count=len(images),
        captions_generated=False,
        dataset_metadata=metadata,
    )
    return dataset, images


def image_row(dataset_id: UUID, position: int, key: str, image: TakenImage, trigger_word: str | None) -> DatasetImage:
    return DatasetImage(
        dataset_id=dataset_id,
        position=position,
        filename=image.original_name,
        key=key,
        sha256=image.sha256,
        size_bytes=image.size,
        width=image.width,
        height=image.height,
        caption=with_trigger_word(image.caption, trigger_word),
        caption_source=image.caption_source.value,
    )


def as_exported(row: DatasetImage, image: TakenImage, manifest: Manifest, trigger_word: str | None) -> None:
    """The name and the caption that the image had; the caption without the trigger word if it had none, either."""
    entry = manifest.images.get(image.original_name)
    if entry is None:
        return
    row.filename = entry.filename
    if manifest.trigger_word == trigger_word:
        row.caption = image.caption or ""
    row.caption_source = entry.caption_source
    row.caption_provenance = entry.caption_provenance


async def store(storage: Storage, rows: Sequence[DatasetImage], images: Sequence[TakenImage]) -> None:
    """Store every image, read back. The first failure ends the others too."""

    async def store(pair: tuple[DatasetImage, TakenImage]) -> None:
        row, image = pair
        await storage.put_file(row.key, image.path, CONTENT_TYPES[image.format])
        image.path.unlink()

    await few_at_once(PARALLEL_UPLOADS, store, zip(rows, images, strict=True))


def _finished(dataset: Dataset) -> Dataset:
    dataset.is_processed = True
    dataset.updated_at = utcnow()
    dataset.dataset_metadata = {key: value for key, value in dataset.dataset_metadata.items() if key != OWNER}
    return dataset


# ---- read --------------------------------------------------------------------------------------------------------

VISIBLE = col(Dataset.is_processed).is_(True)


async def get(session: AsyncSession, dataset_id: UUID) -> Dataset:
    dataset = await session.get(Dataset, dataset_id)
    if dataset is None or not dataset.is_processed:
        raise NotFoundError("There is no dataset with this id.", code="dataset_not_found", value=str(dataset_id))
    return dataset


async def images(session: AsyncSession, dataset_id: UUID) -> list[DatasetImage]:
    """In their order, read anew."""
    mine = sa.select(DatasetImage).where(col(DatasetImage.dataset_id) == dataset_id)
    order = (col(DatasetImage.position), col(DatasetImage.id))
    query = mine.order_by(*order).execution_options(populate_existing=True)
    return list((await session.scalars(query)).all())


# ---- delete ------------------------------------------------------------------------------------------------------


async def delete(session: AsyncSession, dataset_id: UUID) -> None:
    """Hide the dataset, for `discard_abandoned` to remove its files and rows soon.

    Raises NotFoundError, and ConflictError `dataset_in_use` while a training with it, or its captioning, waits or runs:
    the caller's transaction must then be rolled back.
    """
    dataset = await dataset_edits.hold(session, dataset_id)
    users = await _part_from_trainings(session, dataset_id) + await _captionings(session, dataset_id)
    if users:
        raise ConflictError(
            "A training with this dataset, or its captioning, waits or runs.",
            code="dataset_in_use",
            value=users,
            hint="Cancel it first, or wait for its end.",
        )
    dataset.is_processed = False
    dataset.dataset_metadata = {**dataset.dataset_metadata, OWNER: NOBODY}
    await session.flush()


async def _part_from_trainings(session: AsyncSession, dataset_id: UUID) -> int:
    """How many of them wait or run, as they are once none can be resumed before this transaction ends."""
    mine = sa.update(TrainingSession).where(col(TrainingSession.dataset_id) == dataset_id)
    parted = mine.values(dataset_id=None, dataset_version_id=None).returning(col(TrainingSession.status))
    statuses = await session.scalars(parted)
    return sum(status in (Status.PENDING.value, Kind.TRAINING.running_word) for status in statuses)


async def _captionings(session: AsyncSession, dataset_id: UUID) -> int:
    """How many of it wait or run."""
    active = col(Captioning.status).in_((Status.PENDING.value, Kind.CAPTION.running_word))
    its = sa.select(sa.func.count()).select_from(Captioning).where(col(Captioning.dataset_id) == dataset_id, active)
    return await session.scalar(its) or 0


async def _files(session: AsyncSession, dataset_id: UUID) -> set[str]:
    """All that the storage has of the dataset, its versions and its thumbnails."""
    mine = col(DatasetImage.dataset_id) == dataset_id
    small = sa.select(col(DatasetThumbnail.storage_path)).join(DatasetImage).where(mine)
    version = col(DatasetVersion.dataset_id) == dataset_id
    older = sa.select(col(DatasetVersionImage.key)).join(DatasetVersion).where(version)
    keys = sa.union(sa.select(col(DatasetImage.key)).where(mine), small, older)
    return set(await session.scalars(keys))


async def _delete_files(storage: Storage, keys: Collection[str]) -> None:
    await few_at_once(PARALLEL_UPLOADS, storage.delete, keys)


async def _discard(sessions: Sessions, storage: Storage, dataset_id: UUID) -> None:
    async with sessions.begin() as session:
        await _delete_files(storage, await _files(session, dataset_id))
        await session.execute(sa.delete(Dataset).where(col(Dataset.id) == dataset_id))


async def discard_abandoned(sessions: Sessions, storage: Storage) -> int:
    """Remove the datasets that were deleted, or whose upload died half-way; how many there were."""
    async with sessions() as session:
        unfinished = (await session.scalars(sa.select(Dataset).where(col(Dataset.is_processed).is_(False)))).all()
    discarded = 0
    for dataset in unfinished:
        if not owner_is_dead(dataset.dataset_metadata.get(OWNER, "")) and dataset.created_at > utcnow() - ABANDONED:
            continue
        try:
            await _discard(sessions, storage, dataset.id)
        except StorageError as exc:
            log.warning("upload_not_discarded", dataset_id=str(dataset.id), error=str(exc))  # at the next start, then
        else:
            discarded += 1
    await measuring.forget_unused(sessions)
    return discarded
