"""Versions: what a dataset was at some time, kept for those who were trained on it and for those who want it back."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.domain.dataset_content import content_sha256
from api.errors import ConflictError, NotFoundError
from api.models import Dataset, DatasetImage, DatasetPicture, DatasetVersion, DatasetVersionImage, TrainingSession
from api.services import dataset_edits, datasets

PICTURE: tuple[str, ...] = tuple(DatasetPicture.model_fields)


async def current(session: AsyncSession, dataset_id: UUID) -> DatasetVersion:
    """The version that the dataset is now; a new one only if it never was the same.

    The dataset is held until the transaction ends. Raises NotFoundError.
    """
    dataset = await dataset_edits.hold(session, dataset_id)
    return await _version_of(session, dataset, dataset.revision)


async def _version_of(session: AsyncSession, dataset: Dataset, revision: int) -> DatasetVersion:
    """Of what the held dataset's rows are, which is what it was at `revision`."""
    mine = col(DatasetVersion.dataset_id) == dataset.id
    known: DatasetVersion | None = await session.scalar(
        sa.select(DatasetVersion).where(mine, col(DatasetVersion.revision) == revision)
    )
    if known is not None:
        return known
    images = await datasets.images(session, dataset.id)
    sha256 = content_sha256(dataset.trigger_word, images)
    same: DatasetVersion | None = await session.scalar(
        sa.select(DatasetVersion).where(mine, col(DatasetVersion.sha256) == sha256)
    )
    if same is not None:
        same.revision = revision
        await session.flush()
        return same
    last: int = await session.scalar(sa.select(sa.func.max(col(DatasetVersion.number))).where(mine)) or 0
    version = DatasetVersion(
        dataset_id=dataset.id,
        number=last + 1,
        sha256=sha256,
        trigger_word=dataset.trigger_word,
        image_count=len(images),
        revision=revision,
    )
    session.add(version)
    await session.flush()
    await _copy_images(session, dataset.id, version.id)
    return version


async def _copy_images(session: AsyncSession, dataset_id: UUID, version_id: UUID) -> None:
    """In one statement, however many there are."""
    picture = [getattr(DatasetImage, name) for name in PICTURE]
    rows = sa.select(*picture, sa.literal(version_id, sa.Uuid()), col(DatasetImage.id))
    rows = rows.where(col(DatasetImage.dataset_id) == dataset_id)
    await session.execute(sa.insert(DatasetVersionImage).from_select([*PICTURE, "version_id", "image_id"], rows))


# ---- read --------------------------------------------------------------------------------------------------------


async def get(session: AsyncSession, dataset_id: UUID, version_id: UUID) -> DatasetVersion:
    version = await session.get(DatasetVersion, version_id)
    if version is None or version.dataset_id != dataset_id:
        raise NotFoundError(
            "This dataset has no version with this id.", code="version_not_found", value=str(version_id)
        )
    return version


async def images(session: AsyncSession, version_id: UUID) -> list[DatasetVersionImage]:
    order = (col(DatasetVersionImage.position), col(DatasetVersionImage.image_id))
    mine = sa.select(DatasetVersionImage).where(col(DatasetVersionImage.version_id) == version_id)
    return list(await session.scalars(mine.order_by(*order)))


async def trained_on(session: AsyncSession, row: TrainingSession) -> Sequence[DatasetPicture]:
    """What this training reads, whatever was done to the dataset since it was asked for; empty when that is gone."""
    if row.dataset_version_id is not None:
        return await images(session, row.dataset_version_id)
    # It was asked for before there were versions.
    return await datasets.images(session, row.dataset_id) if row.dataset_id else []


# ---- restore, delete ---------------------------------------------------------------------------------------------


async def restore(
    session: AsyncSession, dataset_id: UUID, version_id: UUID, *, revision: int | None = None
) -> tuple[DatasetVersion, DatasetVersion]:
    """Make the dataset what it was; that version, and the one that the dataset was until now.

    Raises NotFoundError, ChangedError.
    """
    dataset = await dataset_edits.begin(session, dataset_id, revision=revision)
    version = await get(session, dataset_id, version_id)
    before = await _version_of(session, dataset, dataset.revision - 1)
    await _put_back(session, dataset_id, await images(session, version_id))
    dataset.image_count = version.image_count
    dataset.dataset_metadata = {**dataset.dataset_metadata, "trigger_word": version.trigger_word}
    version.revision = dataset.revision
    await session.flush()
    return version, before


async def _put_back(session: AsyncSession, dataset_id: UUID, wanted: Sequence[DatasetVersionImage]) -> None:
    """The version before has what is removed here, but for files that came twice: of equal ones it has another."""
    rows = {row.id: row for row in await datasets.images(session, dataset_id)}
    changed = [image.image_id for image in wanted if image.image_id in rows and rows[image.image_id].key != image.key]
    gone = rows.keys() - {image.image_id for image in wanted}
    await dataset_edits.forget_thumbnails(session, [*changed, *gone])
    before = {row.key for row in rows.values()}
    for image_id in gone:
        await session.delete(rows[image_id])
    for image in wanted:
        values: dict[str, Any] = {name: getattr(image, name) for name in PICTURE}
        row = rows.get(image.image_id)
        if row is None:
            session.add(DatasetImage(id=image.image_id, dataset_id=dataset_id, **values))
            continue
        for name, value in values.items():
            if getattr(row, name) != value:
                setattr(row, name, value)
    await session.flush()
    await dataset_edits.release(session, before)


async def delete(session: AsyncSession, dataset_id: UUID, version_id: UUID) -> None:
    """Forget a version, and the files that nothing else needs.

    Raises NotFoundError, ConflictError `version_in_use` while a training session names it.
    """
    await dataset_edits.hold(session, dataset_id)
    version = await get(session, dataset_id, version_id)
    named = col(TrainingSession.dataset_version_id) == version_id
    users = await session.scalar(sa.select(sa.func.count()).select_from(TrainingSession).where(named))
    if users:
        raise ConflictError(
            f"{users} trainings were made on this version, or will be.", code="version_in_use", value=users
        )
    keys = {image.key for image in await images(session, version_id)}
    await session.delete(version)
    await session.flush()
    await dataset_edits.release(session, keys)
