"""The images of a dataset: listed, added, replaced and removed."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.db import Sessions, add_many
from api.domain.dataset_content import image_tag
from api.domain.intake import Intake, NoUsableImagesError, ReportEntry, TakenImage
from api.domain.upload import IncomingFile, Refusal, UploadLimits, shown
from api.errors import ChangedError, ConflictError, InputError, NotFoundError
from api.intake.run import run_intake
from api.lease import new_owner
from api.models import Dataset, DatasetImage
from api.services import dataset_edits, datasets
from api.services.unrecorded import all_unrecorded, recorded
from api.storage import Storage


@dataclass(frozen=True, slots=True)
class Kept:
    """Where files are kept and announced, besides the transaction that records them."""

    sessions: Sessions
    storage: Storage
    limits: UploadLimits
    workdir: Path
    """A folder of the caller's own, gone afterwards."""


@dataclass(frozen=True, slots=True)
class Added:
    dataset: Dataset
    images: list[DatasetImage]
    report: tuple[ReportEntry, ...]


async def get(session: AsyncSession, dataset_id: UUID, image_id: UUID) -> DatasetImage:
    await datasets.get(session, dataset_id)
    mine = (col(DatasetImage.dataset_id) == dataset_id, col(DatasetImage.id) == image_id)
    row: DatasetImage | None = await session.scalar(
        sa.select(DatasetImage).where(*mine).execution_options(populate_existing=True)
    )
    if row is None:
        raise NotFoundError("This dataset has no image with this id.", code="image_not_found", value=str(image_id))
    return row


# ---- add ---------------------------------------------------------------------------------------------------------


async def add(
    session: AsyncSession,
    kept: Kept,
    dataset_id: UUID,
    files: Sequence[IncomingFile],
    *,
    revision: int | None = None,
) -> Added:
    """Take an upload as `datasets.create` does, behind the images that are there.

    Raises NotFoundError, ChangedError, NoUsableImagesError when there is nothing new in it, and as `run_intake`.
    """
    async with kept.sessions() as first:
        known = {row.sha256: row.filename for row in await datasets.images(first, dataset_id)}
    intake = _without_known(await run_intake(files, kept.limits, kept.workdir), known)
    keys = {image.sha256: _key(dataset_id, image) for image in intake.images}
    async with all_unrecorded(kept.sessions, kept.storage, list(keys.values()), new_owner()):
        rows = [datasets.image_row(dataset_id, 0, keys[image.sha256], image, None) for image in intake.images]
        await datasets.store(kept.storage, rows, intake.images)
        async with dataset_edits.undone_if_it_fails(session):
            dataset = await dataset_edits.begin(session, dataset_id, revision=revision)
            present = await datasets.images(session, dataset_id)
            # Looks again: others may have added the same meanwhile.
            intake = _without_known(intake, {row.sha256: row.filename for row in present})
            begin = present[-1].position + 1 if present else 0
            images = [
                datasets.image_row(dataset_id, begin + number, keys.pop(image.sha256), image, dataset.trigger_word)
                for number, image in enumerate(intake.images)
            ]
            if intake.manifest is not None:
                for row, image in zip(images, intake.images, strict=True):
                    datasets.as_exported(row, image, intake.manifest, dataset.trigger_word)
            dataset.image_count += len(images)
            await add_many(session, images)
            await recorded(session, *(row.key for row in images))
            await dataset_edits.release(session, keys.values())
    return Added(dataset, images, intake.report)


def _key(dataset_id: UUID, image: TakenImage) -> str:
    """Never used before: a key is written once."""
    return f"datasets/{dataset_id}/{uuid4().hex[:12]}-{image.path.name.lower()}"


def _without_known(intake: Intake, known: dict[str, str]) -> Intake:
    """What is there already is refused as a duplicate, like one within an upload. Raises NoUsableImagesError."""
    twice = {shown(image.original_name): known[image.sha256] for image in intake.images if image.sha256 in known}
    images = tuple(image for image in intake.images if image.sha256 not in known)
    report = tuple(_refused(entry, twice) if entry.status == "taken" else entry for entry in intake.report)
    if not images:
        raise NoUsableImagesError(report)
    return Intake(images, report, intake.manifest)


def _refused(entry: ReportEntry, twice: dict[str, str]) -> ReportEntry:
    if entry.filename not in twice:
        return entry
    original = shown(twice[entry.filename])
    return ReportEntry.refused(
        entry.filename, InputError(f"The same picture as {original}.", code=Refusal.DUPLICATE, value=original)
    )


# ---- replace, remove ---------------------------------------------------------------------------------------------


async def replace(
    session: AsyncSession,
    kept: Kept,
    dataset_id: UUID,
    image_id: UUID,
    files: Sequence[IncomingFile],
    *,
    tags: Collection[str] | None = None,
) -> DatasetImage:
    """Another picture in the place of this one, with its caption.

    Raises NotFoundError, ChangedError, ConflictError `duplicate`, InputError `one_file_needed`, and as `run_intake`.
    """
    intake = await run_intake(files, kept.limits, kept.workdir)
    if len(intake.images) != 1:
        raise _not_one(len(intake.images))
    picture = intake.images[0]
    key = _key(dataset_id, picture)
    async with all_unrecorded(kept.sessions, kept.storage, [key], new_owner()):
        new = datasets.image_row(dataset_id, 0, key, picture, None)
        await datasets.store(kept.storage, [new], [picture])
        async with dataset_edits.undone_if_it_fails(session):
            await dataset_edits.begin(session, dataset_id)
            row = await unchanged(session, dataset_id, image_id, tags)
            await _refuse_known(session, dataset_id, image_id, picture.sha256)
            old = row.key
            for name in ("key", "sha256", "filename", "size_bytes", "width", "height"):
                setattr(row, name, getattr(new, name))
            await dataset_edits.forget_thumbnails(session, [image_id])
            await session.flush()
            await recorded(session, key)
            await dataset_edits.release(session, {old})
    return row


async def remove(
    session: AsyncSession, dataset_id: UUID, image_id: UUID, *, tags: Collection[str] | None = None
) -> None:
    """Its file stays as long as a version needs it. Raises NotFoundError, ChangedError."""
    dataset = await dataset_edits.begin(session, dataset_id)
    row = await unchanged(session, dataset_id, image_id, tags)
    await dataset_edits.forget_thumbnails(session, [image_id])
    await session.delete(row)
    dataset.image_count -= 1
    await session.flush()
    await dataset_edits.release(session, {row.key})


async def unchanged(
    session: AsyncSession, dataset_id: UUID, image_id: UUID, tags: Collection[str] | None
) -> DatasetImage:
    """The image of the held dataset, if it is still what the client has seen."""
    row = await get(session, dataset_id, image_id)
    if tags is not None and image_tag(row) not in tags:
        raise ChangedError(
            "The image has changed since you read it.",
            code="image_changed",
            value=str(image_id),
            hint="Read it again, and send the change with its new ETag in If-Match, or without If-Match.",
        )
    return row


async def _refuse_known(session: AsyncSession, dataset_id: UUID, image_id: UUID, sha256: str) -> None:
    others = (col(DatasetImage.dataset_id) == dataset_id, col(DatasetImage.id) != image_id)
    same = await session.scalar(
        sa.select(col(DatasetImage.filename)).where(*others, col(DatasetImage.sha256) == sha256).limit(1)
    )
    if same is not None:
        raise ConflictError(f"The same picture as {shown(same)}.", code="duplicate", value=shown(same))


def _not_one(number: int) -> InputError:
    return InputError(f"Send exactly one picture, got {number}.", code="one_file_needed", value=number)
