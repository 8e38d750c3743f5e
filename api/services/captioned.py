"""What a captioner has said, image by image: recorded as it comes, so that a later attempt does the rest only."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.domain.caption import clean_caption, with_trigger_word
from api.domain.captioning import ImageStatus
from api.domain.progress import cleaned
from api.errors import EngineError, JobError
from api.models import Captioning, CaptioningImage, Dataset
from api.models.base import utcnow
from api.services import captionings, jobs
from api.services.captions import NewCaption, set_captions
from api.services.jobs import Lease

MAX_DEATHS = 2
"""An image on which the captioner has died or hung so often is left out by later attempts."""


async def of_job(session: AsyncSession, job_id: UUID) -> Captioning:
    """Raises JobError `captioning_gone`."""
    row = await session.scalar(sa.select(Captioning).where(col(Captioning.task_id) == job_id))
    if row is None:
        raise JobError("The captioning of this job is gone.", code="captioning_gone", value=str(job_id))
    return row


async def to_do(session: AsyncSession, row: Captioning) -> Sequence[CaptioningImage]:
    """What is left of it, in the dataset's order; what an earlier job has failed at is tried again."""
    failed_before = sa.and_(
        col(CaptioningImage.status) == ImageStatus.FAILED.value, col(CaptioningImage.job_id) != row.task_id
    )
    query = (
        sa.select(CaptioningImage)
        .where(
            col(CaptioningImage.captioning_id) == row.id,
            sa.or_(col(CaptioningImage.status) == ImageStatus.PENDING.value, failed_before),
        )
        .order_by(col(CaptioningImage.created_at).desc())
    )
    return (await session.scalars(query)).all()


async def begin(session: AsyncSession, lease: Lease, row: Captioning, revision: str) -> None:
    """Say which weights are used. Raises LeaseLostError."""
    await jobs.require_held(session, lease)
    await session.execute(sa.update(Captioning).where(col(Captioning.id) == row.id).values(revision=revision))


async def record(
    session: AsyncSession,
    lease: Lease,
    row: Captioning,
    item: CaptioningImage,
    picture: str,
    said: str,
    model: dict[str, str],
) -> None:
    """Give the image this caption, unless somebody has changed that or the picture since.

    `picture`: its SHA-256; `model`: what wrote it, and by which weights. Raises LeaseLostError with nothing written.
    """
    text = clean_caption(said)
    if not text:
        await fail(session, lease, item, "caption_empty", "The captioner had nothing to say.")
        return
    await jobs.require_held(session, lease)
    caption = with_trigger_word(text, row.trigger_word)
    provenance = _provenance(row, model)
    new = NewCaption(caption, row.captioner, provenance, instead_of=item.before, of_picture=picture)
    what = f"Captioned by {row.captioner}"
    written = await set_captions(session, row.dataset_id, {item.image_id: new}, what=what, job_id=lease.job_id)
    status = ImageStatus.CAPTIONED if written else ImageStatus.KEPT
    await _done(session, lease, item, status=status.value, caption=caption, error_code=None, error_message=None)


def _provenance(row: Captioning, model: dict[str, str]) -> dict[str, Any]:
    about = {"captioner": row.captioner, **model, "style": row.style, "prompt": row.prompt}
    return {**about, "captioning_id": str(row.id), "at": utcnow().isoformat()}


async def keep(session: AsyncSession, lease: Lease, item: CaptioningImage) -> None:
    """The image is gone. Raises LeaseLostError."""
    await jobs.require_held(session, lease)
    await _done(session, lease, item, status=ImageStatus.KEPT.value)


async def fail(session: AsyncSession, lease: Lease, item: CaptioningImage, code: str, detail: str) -> None:
    """This image cannot be captioned. Raises LeaseLostError."""
    await jobs.require_held(session, lease)
    about = {"error_code": code, "error_message": cleaned(detail)}
    await _done(session, lease, item, status=ImageStatus.FAILED.value, **about)


async def blame(session: AsyncSession, lease: Lease, item: CaptioningImage, error: JobError) -> None:
    """The captioner has died or hung on this image; the second time it has failed. Raises LeaseLostError."""
    await jobs.require_held(session, lease)
    mine = sa.update(CaptioningImage).where(col(CaptioningImage.id) == item.id)
    await session.execute(mine.values(failures=item.failures + 1))
    if item.failures + 1 >= MAX_DEATHS:
        await fail(session, lease, item, error.code, error.detail)


async def _done(session: AsyncSession, lease: Lease, item: CaptioningImage, **values: Any) -> None:
    mine = sa.update(CaptioningImage).where(col(CaptioningImage.id) == item.id)
    await session.execute(mine.values(job_id=lease.job_id, finished_at=utcnow(), **values))


async def judge(session: AsyncSession, row: Captioning) -> dict[str, int]:
    """What became of its images. Raises EngineError `captions_failed` when none of them could be captioned."""
    found = (await captionings.counts(session, [row.id]))[row.id]
    if found[ImageStatus.FAILED.value] < row.total:
        return found
    of_row = sa.select(col(CaptioningImage.error_message)).where(col(CaptioningImage.captioning_id) == row.id)
    first = await session.scalar(of_row.order_by(col(CaptioningImage.created_at).desc()).limit(1))
    raise EngineError(
        f"None of the images could be captioned. The first one: {first}",
        code="captions_failed",
        value=row.total,
        hint=f"`GET /api/captionings/{row.id}/images` has the error of each; a retry tries all of them again.",
    )


async def finish(session: AsyncSession, row: Captioning, found: dict[str, int]) -> None:
    """The dataset has generated captions, if any was written."""
    if found[ImageStatus.CAPTIONED.value]:
        mine = sa.update(Dataset).where(col(Dataset.id) == row.dataset_id)
        await session.execute(mine.values(captions_generated=True, updated_at=utcnow()))
