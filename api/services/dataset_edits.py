"""Changes of one dataset, one after the other: whoever changes it holds its row until his transaction ends."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.errors import ChangedError, NotFoundError
from api.lease import NOBODY
from api.models import Dataset, DatasetImage, DatasetThumbnail, DatasetVersionImage, UnrecordedFile
from api.models.base import utcnow
from api.services.unrecorded import dismiss


async def begin(session: AsyncSession, dataset_id: UUID, *, revision: int | None = None) -> Dataset:
    """Count a change and hold the dataset for it; the first statement of a change, so that all it reads stays true.

    Raises NotFoundError, and ChangedError when the dataset is not at `revision` any more: the caller's transaction
    must then be rolled back.
    """
    dataset = await _touch(session, dataset_id, revision=Dataset.revision + 1, updated_at=utcnow())
    if revision is not None and dataset.revision != revision + 1:
        raise changed(dataset.revision - 1)
    return dataset


@asynccontextmanager
async def undone_if_it_fails(session: AsyncSession) -> AsyncIterator[None]:
    """So that whoever then tidies up, by a transaction of his own, does not wait for this one."""
    try:
        yield
    except BaseException:
        await session.rollback()
        raise


async def hold(session: AsyncSession, dataset_id: UUID) -> Dataset:
    """Keep everybody else from changing or deleting the dataset until the transaction ends. Raises NotFoundError."""
    return await _touch(session, dataset_id, revision=Dataset.revision)


async def _touch(session: AsyncSession, dataset_id: UUID, **values: object) -> Dataset:
    shown = (col(Dataset.id) == dataset_id, col(Dataset.is_processed).is_(True))
    touch = sa.update(Dataset).where(*shown).values(**values).returning(Dataset)
    dataset = await session.scalar(touch, execution_options={"populate_existing": True})
    if dataset is None:
        raise NotFoundError("There is no dataset with this id.", code="dataset_not_found", value=str(dataset_id))
    return dataset


def changed(value: object) -> ChangedError:
    return ChangedError(
        "The dataset has changed since you read it.",
        code="dataset_changed",
        value=value,
        hint="Read it again, and send the change with its new ETag in If-Match, or without If-Match.",
    )


async def release(session: AsyncSession, keys: Collection[str]) -> None:
    """Have these files removed soon, unless a row names them still; the dataset is held."""
    for table in (DatasetImage, DatasetVersionImage):
        named = await session.scalars(sa.select(col(table.key)).where(col(table.key).in_(keys)).distinct())
        keys = set(keys) - set(named)
    for key in keys:
        await session.merge(UnrecordedFile(key=key, owner=NOBODY))
    await session.flush()


async def forget_thumbnails(session: AsyncSession, image_ids: Collection[UUID]) -> None:
    """Of images that are removed or become others."""
    its = sa.delete(DatasetThumbnail).where(col(DatasetThumbnail.image_id).in_(image_ids))
    keys = await session.scalars(its.returning(col(DatasetThumbnail.storage_path)))
    for key in keys.all():
        dismiss(session, key)
