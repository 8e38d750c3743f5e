"""Small copies of pictures: each made once, when it is first asked for, and kept in the storage."""

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.db import Sessions
from api.domain.picture_format import ThumbnailSize
from api.errors import NotFoundError
from api.lease import new_owner
from api.models import Dataset, DatasetImage, DatasetThumbnail, GeneratedAsset, Thumbnail
from api.rendition import make_thumbnail
from api.resources import Resources
from api.scratch import scratch
from api.services.generation import require_file
from api.services.unrecorded import recorded, unrecorded
from api.storage import on_disk

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Original:
    """The picture that small ones are of, and where these are recorded."""

    id: UUID
    key: str
    table: Any
    owner: str
    """The column of `table` with the picture's id."""
    gone: str
    """The code when it is no more."""
    held: sa.UpdateBase | None = None
    """Gives a row, and keeps it, while the picture is what it was; None where a foreign key sees to that."""

    @property
    def its(self) -> sa.ColumnElement[bool]:
        its: sa.ColumnElement[bool] = getattr(self.table, self.owner) == self.id
        return its


async def thumbnail(resources: Resources, asset: GeneratedAsset, size: ThumbnailSize) -> str:
    """Where the storage has it. Raises ConflictError `asset_not_ready`, NotFoundError `file_missing`, StorageError."""
    return await _small(
        resources, _Original(asset.id, require_file(asset), Thumbnail, "asset_id", "asset_not_found"), size
    )


async def dataset_thumbnail(resources: Resources, image: DatasetImage, size: ThumbnailSize) -> str:
    """Likewise of an image of a dataset. Raises NotFoundError `file_missing` or `image_not_found`, StorageError."""
    shown = sa.exists().where(col(Dataset.id) == image.dataset_id, col(Dataset.is_processed).is_(True))
    same = sa.update(DatasetImage).where(col(DatasetImage.id) == image.id, col(DatasetImage.key) == image.key, shown)
    held = same.values(key=image.key).returning(col(DatasetImage.id)).execution_options(synchronize_session=False)
    original = _Original(image.id, image.key, DatasetThumbnail, "image_id", "image_not_found", held)
    return await _small(resources, original, size)


async def _small(resources: Resources, original: _Original, size: ThumbnailSize) -> str:
    async with resources.sessions() as session:
        kept = await _kept(session, original, size)
    if kept is not None and await resources.storage.size(kept) is not None:
        return kept
    try:
        return await _make(resources, original, size, instead_of=kept)
    except _Faster:
        log.info("thumbnail_made_twice", picture_id=str(original.id))
    async with resources.sessions() as session:
        kept = await _kept(session, original, size)
    if kept is None:
        raise NotFoundError("The picture was removed just now.", code=original.gone, value=str(original.id))
    return kept


async def _make(resources: Resources, original: _Original, size: ThumbnailSize, *, instead_of: str | None) -> str:
    """Where it then is. Raises _Faster."""
    key = f"thumbnails/{original.id}/{size}-{uuid4().hex}.webp"
    async with scratch(resources.settings) as folder:
        picture, small = await on_disk(resources.storage, original.key, folder), folder / "small.webp"
        await asyncio.to_thread(make_thumbnail, picture, small, size.side)
        async with unrecorded(resources.sessions, resources.storage, key, new_owner()):
            await resources.storage.put_file(key, small, "image/webp")
            await _record(resources.sessions, original, size, key, instead_of=instead_of)
    return key


class _Faster(Exception):
    """Another request has made the same thumbnail meanwhile, or the picture is gone."""


async def _kept(session: AsyncSession, original: _Original, size: ThumbnailSize) -> str | None:
    table = original.table
    kept: str | None = await session.scalar(sa.select(table.storage_path).where(original.its, table.size == size.value))
    return kept


async def _record(
    sessions: Sessions, original: _Original, size: ThumbnailSize, key: str, *, instead_of: str | None
) -> None:
    """A new row, or that of a thumbnail whose file was gone. Raises _Faster."""
    table = original.table
    try:
        async with sessions.begin() as session:
            if original.held is not None and await session.scalar(original.held) is None:
                raise _Faster
            if instead_of is None:
                session.add(table(**{original.owner: original.id}, size=size.value, storage_path=key))
                await session.flush()
            else:
                same = sa.update(table).where(original.its, table.storage_path == instead_of)
                if await session.scalar(same.values(storage_path=key).returning(table.size)) is None:
                    raise _Faster
            await recorded(session, key)
    except IntegrityError as exc:
        raise _Faster from exc
