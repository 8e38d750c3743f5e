"""The pictures as one finds, marks and puts them away."""

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.errors import ConflictError, NotFoundError
from api.models import GeneratedAsset, Thumbnail
from api.models.base import utcnow
from api.services import inputs
from api.services.asset_search import Filters, conditions
from api.services.awaited import WAITING
from api.services.generation import get
from api.services.pages import Page, page
from api.services.unrecorded import dismiss

PURGED_AT_ONCE = 500
"""Rows of one transaction."""


async def listed(session: AsyncSession, filters: Filters, *, limit: int, cursor: str | None) -> Page[GeneratedAsset]:
    """Newest first. Raises InputError `cursor_invalid`."""
    where = conditions(filters, session.get_bind().dialect.name)
    return await page(session, GeneratedAsset, limit=limit, cursor=cursor, where=where)


# ---- marked ------------------------------------------------------------------------------------------------------


async def mark(
    session: AsyncSession, asset_id: UUID, *, favourite: bool | None = None, tags: Sequence[str] | None = None
) -> GeneratedAsset:
    """Change what is given. Raises NotFoundError."""
    asset = await get(session, asset_id)
    if favourite is not None:
        asset.favourite = favourite
    if tags is not None:
        asset.tags = list(tags)
    await session.flush()
    return asset


# ---- put away, and back ------------------------------------------------------------------------------------------


async def delete(session: AsyncSession, asset_id: UUID) -> None:
    """Put it aside: nobody finds it but who looks for what is deleted, and it can be restored until it is purged.

    Raises NotFoundError, ConflictError `asset_active` while it is waited for, and ConflictError `asset_in_use` while a
    picture that starts from it is: the caller's transaction must then be rolled back.
    """
    asset = await get(session, asset_id)
    ended = col(GeneratedAsset.status).not_in(WAITING)
    shown = col(GeneratedAsset.deleted_at).is_(None)
    gone = sa.update(GeneratedAsset).where(col(GeneratedAsset.id) == asset_id, ended, shown).values(deleted_at=utcnow())
    if (
        await session.scalar(gone.returning(col(GeneratedAsset.id)).execution_options(synchronize_session=False))
        is None
    ):
        await session.refresh(asset)
        asset = await get(session, asset_id)
        raise ConflictError(
            f"This asset is {asset.status}.",
            code="asset_active",
            value=asset.status,
            hint="Cancel it first, then delete it.",
        )
    # Only now nobody else can ask for it, and whoever was faster can be seen.
    users = (await inputs.users(session))[str(asset_id)]
    if users:
        raise ConflictError(
            f"{users} pictures that start from this asset are still waited for.",
            code="asset_in_use",
            value=users,
            hint="Wait for them, or cancel them first.",
        )


async def restore(session: AsyncSession, asset_id: UUID) -> GeneratedAsset:
    """Take a deleted picture back; of one that is not deleted nothing changes. Raises NotFoundError."""
    back = sa.update(GeneratedAsset).where(col(GeneratedAsset.id) == asset_id).values(deleted_at=None)
    asset = await session.scalar(back.returning(GeneratedAsset).execution_options(populate_existing=True))
    if asset is None:
        raise NotFoundError("There is no asset with this id.", code="asset_not_found", value=str(asset_id))
    return asset


async def purge(session: AsyncSession, days: int) -> int:
    """Remove pictures deleted so many days ago, with their files; how many. At most PURGED_AT_ONCE of them.

    One that a picture starts from which is waited for, as by a retry, stays until that has ended.
    """
    over = col(GeneratedAsset.deleted_at) <= utcnow() - timedelta(days=days)
    used = [UUID(picture_id) for picture_id in await inputs.users(session)]
    unused = sa.select(col(GeneratedAsset.id)).where(over, col(GeneratedAsset.id).not_in(used))
    ids = (await session.scalars(unused.limit(PURGED_AT_ONCE))).all()
    # A thumbnail of one that is restored just now is made again when it is asked for.
    small = sa.delete(Thumbnail).where(col(Thumbnail.asset_id).in_(ids)).returning(col(Thumbnail.storage_path))
    keys = list(await session.scalars(small.execution_options(synchronize_session=False)))
    # Looks again: somebody may have restored one since.
    remove = sa.delete(GeneratedAsset).where(col(GeneratedAsset.id).in_(ids), over)
    gone = remove.returning(col(GeneratedAsset.storage_path)).execution_options(synchronize_session=False)
    removed = (await session.scalars(gone)).all()
    for key in (*keys, *removed):
        if key is not None:
            dismiss(session, key)
    await session.flush()
    return len(removed)
