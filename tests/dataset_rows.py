"""Datasets as rows alone, for what needs no file."""

from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.models import Dataset, DatasetImage


async def add_dataset(session: AsyncSession, *captions: str, trigger_word: str | None = None) -> UUID:
    """A dataset that is shown, with an image for each caption; its id."""
    dataset_id = uuid4()
    about: dict[str, Any] = {
        "name": "me",
        "storage_path": f"datasets/{dataset_id}",
        "dataset_metadata": {"trigger_word": trigger_word},
    }
    session.add(Dataset(id=dataset_id, image_count=len(captions), is_processed=True, **about))
    await session.flush()
    session.add_all(image_row(dataset_id, position, caption) for position, caption in enumerate(captions))
    await session.flush()
    return dataset_id


def image_row(dataset_id: UUID, position: int, caption: str = "", **values: Any) -> DatasetImage:
    name = f"{position:05d}-{position}.png"
    about: dict[str, Any] = {"sha256": f"{position:064x}", "size_bytes": 100, "width": 64, "height": 48}
    about |= {"key": f"datasets/{dataset_id}/{name}", "filename": name, "caption_source": "uploaded"}
    return DatasetImage(dataset_id=dataset_id, position=position, caption=caption, **(about | values))


async def image_rows(session: AsyncSession, dataset_id: UUID) -> list[DatasetImage]:
    mine = sa.select(DatasetImage).where(col(DatasetImage.dataset_id) == dataset_id)
    return list(await session.scalars(mine.order_by(col(DatasetImage.position), col(DatasetImage.id))))
