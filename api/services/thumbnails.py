"""Small copies of pictures: each made once, when it is first asked for, and kept in the storage."""

import asyncio
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
from api.models import GeneratedAsset, Thumbnail
from api.rendition import make_thumbnail
from api.resources import Resources
from api.scratch import scratch
from api.services.generation import require_file
from api.services.unrecorded import recorded, unrecorded
from api.storage import on_disk

log = structlog.get_logger(__name__)


async def thumbnail(resources: Resources, asset: GeneratedAsset, size: ThumbnailSize) -> str:
    """Where the storage has it. Raises ConflictError `asset_not_ready`, NotFoundError `file_missing`, StorageError."""
    source = require_file(asset)
    async with resources.sessions() as session:
        kept = await _kept(session, asset.id, size)
    if kept is not None and await resources.storage.size(kept) is not None:
        return kept
    try:
        return await _make(resources, asset.id, source, size, instead_of=kept)
    except _Faster:
        log.info("thumbnail_made_twice", asset_id=str(asset.id))
    async with resources.sessions() as session:
        kept = await _kept(session, asset.id, size)
    if kept is None:
        raise NotFoundError("The picture was purged just now.", code="asset_not_found", value=str(asset.id))
    return kept


async def _make(
    resources: Resources, asset_id: UUID, source: str, size: ThumbnailSize, *, instead_of: str | None
) -> str:
    """Where it then is. Raises _Faster."""
    key = f"thumbnails/{asset_id}/{size}-{uuid4().hex}.webp"
    async with scratch(resources.settings) as folder:
        picture, small = await on_disk(resources.storage, source, folder), folder / "small.webp"
        await asyncio.to_thread(make_thumbnail, picture, small, size.side)
        async with unrecorded(resources.sessions, resources.storage, key, new_owner()):
            await resources.storage.put_file(key, small, "image/webp")
            await _record(resources.sessions, asset_id, size, key, instead_of=instead_of)
    return key


class _Faster(Exception):
    """Another request has made the same thumbnail meanwhile, or the picture is gone."""


async def _kept(session: AsyncSession, asset_id: UUID, size: ThumbnailSize) -> str | None:
    its = (col(Thumbnail.asset_id) == asset_id, col(Thumbnail.size) == size.value)
    return await session.scalar(sa.select(col(Thumbnail.storage_path)).where(*its))


async def _record(sessions: Sessions, asset_id: UUID, size: ThumbnailSize, key: str, *, instead_of: str | None) -> None:
    """A new row, or that of a thumbnail whose file was gone. Raises _Faster."""
    try:
        async with sessions.begin() as session:
            if instead_of is None:
                session.add(Thumbnail(asset_id=asset_id, size=size.value, storage_path=key))
                await session.flush()
            else:
                its = (col(Thumbnail.asset_id) == asset_id, col(Thumbnail.storage_path) == instead_of)
                mended = sa.update(Thumbnail).where(*its).values(storage_path=key).returning(col(Thumbnail.size))
                if await session.scalar(mended) is None:
                    raise _Faster
            await recorded(session, key)
    except IntegrityError as exc:
        raise _Faster from exc
