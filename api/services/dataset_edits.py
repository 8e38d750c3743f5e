"""Changes of one dataset, one after the other: whoever changes it holds its row until his transaction ends."""

from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.errors import ChangedError, NotFoundError
from api.models import Dataset
from api.models.base import utcnow


async def begin(session: AsyncSession, dataset_id: UUID, *, revision: int | None = None) -> Dataset:
    """Count a change and hold the dataset for it; the first statement of a change, so that all it reads stays true.

    Raises NotFoundError, and ChangedError when the dataset is not at `revision` any more: the caller's transaction
    must then be rolled back.
    """
    dataset = await _touch(session, dataset_id, revision=Dataset.revision + 1, updated_at=utcnow())
    if revision is not None and dataset.revision != revision + 1:
        raise changed(dataset.revision - 1)
    return dataset


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
