"""Pictures that workflows start from: uploaded ones, kept by content, and assets."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.db import Sessions
from api.domain.upload import UploadLimits
from api.errors import Fault
from api.intake.input_image import TakenInput, take_input
from api.lease import new_owner
from api.models import GeneratedAsset, InputImage
from api.models.base import utcnow
from api.services import awaited
from api.services.unrecorded import dismiss, recorded, unrecorded
from api.storage import Storage, StoredFile

log = structlog.get_logger(__name__)

UNKNOWN = "there is no asset and no input with this id."


async def keep(sessions: Sessions, storage: Storage, limits: UploadLimits, path: Path, folder: Path) -> InputImage:
    """Take an uploaded picture; the same picture again is the same row, however many come at the same time.

    Raises InputError with a `Refusal` as code, StorageError.
    """
    taken = await asyncio.to_thread(take_input, path, folder / "input.png", limits)
    input_id = UUID(bytes=bytes.fromhex(taken.sha256)[:16])
    seen = await _used(sessions, input_id)
    if seen is not None and await storage.size(seen.storage_path) == seen.size_bytes:
        return seen
    key = f"inputs/{uuid4().hex}/{taken.sha256}.png"
    try:
        async with unrecorded(sessions, storage, key, new_owner()):
            await _record(
                sessions, seen, _values(input_id, taken, await storage.put_file(key, taken.path, "image/png"))
            )
    except _Faster:
        log.info("input_came_twice", input_id=str(input_id))
    async with sessions() as session:
        return await session.get_one(InputImage, input_id)


async def _used(sessions: Sessions, input_id: UUID) -> InputImage | None:
    """The row, if there is one, wanted again now."""
    async with sessions.begin() as session:
        same = sa.update(InputImage).where(col(InputImage.id) == input_id)
        return await session.scalar(same.values(used_at=utcnow()).returning(InputImage))


class _Faster(Exception):
    """Another request has kept the same picture meanwhile."""


def _values(input_id: UUID, taken: TakenInput, stored: StoredFile) -> dict[str, Any]:
    return {
        "id": input_id,
        "storage_path": stored.key,
        "sha256": stored.sha256,
        "width": taken.width,
        "height": taken.height,
        "size_bytes": stored.size,
        "used_at": utcnow(),
    }


async def _record(sessions: Sessions, seen: InputImage | None, values: dict[str, Any]) -> None:
    """A new row, or that of a picture whose file was gone. Raises _Faster."""
    try:
        async with sessions.begin() as session:
            if seen is None:
                session.add(InputImage(**values))
                await session.flush()
            else:
                same = (col(InputImage.id) == seen.id, col(InputImage.storage_path) == seen.storage_path)
                mended = sa.update(InputImage).where(*same).values(**values).returning(col(InputImage.id))
                if await session.scalar(mended) is None:
                    raise _Faster
            await recorded(session, values["storage_path"])
    except IntegrityError as exc:
        raise _Faster from exc


async def find_all(
    session: AsyncSession, storage: Storage, wanted: Mapping[str, Any]
) -> tuple[dict[str, dict[str, Any]], list[Fault]]:
    """For each parameter the picture that its id means, for `generation_config`; and what cannot be found.

    Nobody removes what is found before the transaction ends, and then the rows that it has written say who waits.
    """
    found, faults = {}, []
    for name, picture_id in wanted.items():
        source = await _source(session, UUID(picture_id))
        if isinstance(source, str):
            faults.append(_not_found(name, picture_id, source))
        elif await storage.size(source["storage_path"]) is None:
            faults.append(_not_found(name, picture_id, "the file of this picture is gone from the storage."))
        else:
            found[name] = source
    # Only now: these are writes, and the storage must not be asked with SQLite's one lock in hand.
    # By id: two requests for the same pictures must not wait for each other.
    for name, source in sorted(found.items(), key=lambda item: str(item[1]["id"])):
        if not await _hold(session, UUID(source["id"])):
            faults.append(_not_found(name, source["id"], UNKNOWN))
            del found[name]
    return found, faults


async def users(session: AsyncSession) -> Counter[str]:
    """How many of the pictures that are waited for start from each picture, by its id."""
    return Counter(
        picture_id
        for config in await awaited.configs(session)
        for picture_id in {source["id"] for source in config.get("inputs", {}).values()}
    )


async def sweep(session: AsyncSession, days: int) -> int:
    """Remove uploaded pictures that nobody has asked for in so many days and no job waits for; how many."""
    unused = col(InputImage.used_at) < utcnow() - timedelta(days=days)
    ids = (await session.scalars(sa.select(col(InputImage.id)).where(unused))).all()
    kept, swept = await users(session), 0
    for input_id in ids:
        if str(input_id) in kept:
            continue
        # Looks again: a request may have asked for it since.
        remove = sa.delete(InputImage).where(col(InputImage.id) == input_id, unused)
        key = await session.scalar(remove.returning(col(InputImage.storage_path)))
        if key is not None:
            dismiss(session, key)
            swept += 1
    await session.flush()
    return swept


def _not_found(name: str, picture_id: str, why: str) -> Fault:
    return Fault(("parameters", name), f"{name}: {why}", "input_not_found", picture_id)


async def _hold(session: AsyncSession, picture_id: UUID) -> bool:
    """Wanted now, so that it stays until the transaction ends; False when it was removed meanwhile."""
    used = sa.update(InputImage).where(col(InputImage.id) == picture_id).values(used_at=utcnow())
    same = sa.update(GeneratedAsset).where(
        col(GeneratedAsset.id) == picture_id, col(GeneratedAsset.deleted_at).is_(None)
    )
    same = same.values(storage_path=col(GeneratedAsset.storage_path))  # changes nothing, and locks the row
    for held in (used.returning(col(InputImage.id)), same.returning(col(GeneratedAsset.id))):
        if await session.scalar(held.execution_options(synchronize_session=False)) is not None:
            return True
    return False


async def _source(session: AsyncSession, picture_id: UUID) -> dict[str, Any] | str:
    """Where the picture is, or why there is none."""
    row = await session.get(InputImage, picture_id)
    if row is not None:
        return {"id": str(picture_id), "storage_path": row.storage_path, "sha256": row.sha256}
    asset = await session.get(GeneratedAsset, picture_id)
    if asset is None or asset.deleted_at is not None:
        return UNKNOWN
    if asset.storage_path is None:
        return f"this asset has no file: it is {asset.status}."
    sha256 = asset.generation_config["output"]["sha256"]
    return {"id": str(picture_id), "storage_path": asset.storage_path, "sha256": sha256}
