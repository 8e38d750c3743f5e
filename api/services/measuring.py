"""Pictures are measured once, whatever dataset they are in; what was found is kept by the hash of their bytes."""

import asyncio
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.db import Sessions, add_many
from api.domain.measurement import Measured, Measurement
from api.domain.preflight import Findings
from api.errors import InputError, NotFoundError, StorageError
from api.few_at_once import few_at_once
from api.intake.measure import measure_file
from api.models import DatasetImage, DatasetPicture, ImageMeasurement
from api.resources import Resources
from api.scratch import scratch
from api.see_through import see_through
from api.storage import on_disk

log = structlog.get_logger(__name__)

VERSION = 1
"""Of what `intake.measure` does: a higher one has everything measured anew."""
ASKED_AT_ONCE = 500
AT_ONCE = 16
FILE_MISSING, FILE_DAMAGED = "file_missing", "file_damaged"


async def look_at(resources: Resources, images: Sequence[DatasetPicture], patience_seconds: float | None) -> Findings:
    """What is known of these pictures, after measuring those that never were, for as long as the patience lasts.

    Each is kept as soon as it is measured, so whoever asks again goes on where this ended, however it ended.
    """
    measured = await known(resources.sessions, sorted({image.sha256 for image in images}))
    broken: dict[str, str] = {}

    async def look(image: DatasetPicture) -> None:
        try:
            size = await resources.storage.size(image.key)
            if size != image.size_bytes:
                broken[image.sha256] = FILE_MISSING if size is None else FILE_DAMAGED
            elif image.sha256 not in measured:
                measured[image.sha256] = await _once_measured(resources, image, folder)
        except InputError as exc:
            broken[image.sha256] = FILE_MISSING if isinstance(exc, NotFoundError) else FILE_DAMAGED
        except (StorageError, OSError) as exc:
            log.warning("picture_not_measured", key=image.key, error=str(exc))

    async with scratch(resources.settings) as folder:
        try:
            async with asyncio.timeout(patience_seconds):
                await few_at_once(AT_ONCE, look, {image.sha256: image for image in images}.values())
        except TimeoutError:
            log.info("pictures_not_measured", pictures=len({image.sha256 for image in images} - measured.keys()))
    return Findings(measured, broken)


async def known(sessions: Sessions, hashes: Sequence[str]) -> dict[str, Measurement]:
    found: dict[str, Measurement] = {}
    row = ImageMeasurement
    async with sessions() as session:
        for start in range(0, len(hashes), ASKED_AT_ONCE):
            its = (col(row.sha256).in_(hashes[start : start + ASKED_AT_ONCE]), col(row.version) == VERSION)
            query = sa.select(col(row.sha256), col(row.found)).where(*its)
            found |= {sha256: Measurement.from_json(data) for sha256, data in await session.execute(query)}
    return found


async def previews(session: AsyncSession, hashes: Iterable[str]) -> dict[str, bytes]:
    """Small JPEGs, of the pictures that were measured."""
    row = ImageMeasurement
    its = (col(row.sha256).in_(list(hashes)), col(row.version) == VERSION)
    found = await session.execute(sa.select(col(row.sha256), col(row.preview)).where(*its))
    return {sha256: preview for sha256, preview in found}  # noqa: C416 - dict() of rows has no type


async def keep(sessions: Sessions, found: Mapping[str, Measured]) -> None:
    """By sha256; what is known already stays as it is."""
    there = await known(sessions, sorted(found))
    rows = await asyncio.to_thread(_rows, {sha256: found[sha256] for sha256 in found if sha256 not in there})
    try:
        async with sessions.begin() as session:
            await add_many(session, rows)
    except IntegrityError:
        # Another request was faster with one of them, and what it kept says the same; the rest is measured when asked.
        log.info("pictures_measured_twice", pictures=len(rows))


def _rows(found: Mapping[str, Measured]) -> list[ImageMeasurement]:
    return [
        ImageMeasurement(sha256=sha256, version=VERSION, found=each.measurement.to_json(), preview=each.preview)
        for sha256, each in found.items()
    ]


async def forget_unused(sessions: Sessions) -> int:
    """Remove what is known of pictures that no dataset has any more: a preview shows who is on them."""
    unused = col(ImageMeasurement.sha256).not_in(sa.select(col(DatasetImage.sha256)))
    async with sessions() as session:
        hashes = (
            await session.scalars(sa.select(col(ImageMeasurement.sha256)).where(unused).limit(ASKED_AT_ONCE))
        ).all()
    if hashes:  # looked for first: a deletion of nothing would still lock SQLite
        async with sessions.begin() as session:
            its = (col(ImageMeasurement.sha256).in_(hashes), unused)
            await session.execute(sa.delete(ImageMeasurement).where(*its))
    return len(hashes)


async def _once_measured(resources: Resources, image: DatasetPicture, folder: Path) -> Measurement:
    """Raises what `_measured` raises."""
    async with resources.looks.alone_at(image.sha256):
        async with resources.looks.turns:
            # Somebody else may have been here for the same: a report and its sheet are asked for together.
            meanwhile = await known(resources.sessions, [image.sha256])
            if meanwhile:
                return meanwhile[image.sha256]
            found = await _measured(resources, image, folder)
        await keep(resources.sessions, {image.sha256: found})
    return found.measurement


async def _measured(resources: Resources, image: DatasetPicture, folder: Path) -> Measured:
    """Raises NotFoundError, InputError when it is not the picture that was stored, StorageError."""
    own = folder / image.sha256
    own.mkdir()
    path = await on_disk(resources.storage, image.key, own)
    # Seen through: a thread cannot be stopped, and its turn is over only when it ends.
    looking = asyncio.get_running_loop().run_in_executor(resources.looks.threads, _checked, path, image.sha256)
    found = await see_through(looking)
    if path.is_relative_to(own):
        await asyncio.to_thread(path.unlink)
    return found


def _checked(path: Path, sha256: str) -> Measured:
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise InputError("The picture is not the one that was stored.", code=FILE_DAMAGED, value=path.name)
    return measure_file(path)
