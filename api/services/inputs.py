"""Pictures that workflows start from: uploaded ones, kept by content, and assets."""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.db import Sessions
from api.domain.job import TERMINAL, Kind
from api.domain.upload import UploadLimits
from api.errors import Fault
from api.intake.input_image import TakenInput, take_input
from api.lease import new_owner
from api.models import GeneratedAsset, InputImage, Job
from api.models.base import utcnow
from api.services.unrecorded import dismiss, recorded, unrecorded
from api.storage import Storage, StoredFile

log = structlog.get_logger(__name__)


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
    """For each parameter the picture that its id means, for `generation_config`; and what cannot be found."""
    found, faults = {}, []
    for name, picture_id in wanted.items():
        source = await _source(session, UUID(picture_id))
        if isinstance(source, str):
            faults.append(Fault(("parameters", name), f"{name}: {source}", "input_not_found", picture_id))
        elif await storage.size(source["storage_path"]) is None:
            text = f"{name}: the file of this picture is gone from the storage."
            faults.append(Fault(("parameters", name), text, "input_not_found", picture_id))
        else:
            found[name] = source
    return found, faults


async def sweep(session: AsyncSession, days: int) -> int:
    """Remove uploaded pictures that nobody has asked for in so many days and no job waits for; how many."""
    active = (col(Job.kind) == Kind.IMAGE.value, col(Job.status).notin_([status.value for status in TERMINAL]))
    oldest = await session.scalar(sa.select(sa.func.min(col(Job.created_at))).where(*active))
    unused = utcnow() - timedelta(days=days)
    before: datetime = min(unused, oldest) if oldest is not None else unused
    rows = (await session.scalars(sa.select(InputImage).where(col(InputImage.used_at) < before))).all()
    for row in rows:
        dismiss(session, row.storage_path)
        await session.delete(row)
    await session.flush()
    return len(rows)


async def _source(session: AsyncSession, picture_id: UUID) -> dict[str, Any] | str:
    """Where the picture is, or why there is none."""
    row = await session.get(InputImage, picture_id)
    if row is not None:
        row.used_at = utcnow()
        return {"id": str(picture_id), "storage_path": row.storage_path, "sha256": row.sha256}
    asset = await session.get(GeneratedAsset, picture_id)
    if asset is None:
        return "there is no asset and no input with this id."
    if asset.storage_path is None:
        return f"this asset has no file: it is {asset.status}."
    sha256 = asset.generation_config["output"]["sha256"]
    return {"id": str(picture_id), "storage_path": asset.storage_path, "sha256": sha256}
