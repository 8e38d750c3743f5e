"""Captionings: from a request to rows, and what they tell of themselves."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Annotated, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.domain.captioning import CaptionerName, ImageStatus, Overwrite, is_wanted, wording
from api.domain.job import Kind, Status
from api.domain.text import Name, Prompt
from api.domain.webhook import WebhookUrl
from api.engines import locate
from api.errors import ConflictError, InputError, NotFoundError
from api.models import Captioning, CaptioningImage, DatasetImage, Job
from api.services import dataset_edits, datasets, webhooks
from api.settings import Settings

CaptioningStatus = Literal["pending", "captioning", "completed", "failed", "cancelled"]
MAX_ONLY = 10_000
ACTIVE = (Status.PENDING.value, Kind.CAPTION.running_word)


class CaptionRequest(BaseModel):
    """`POST /api/datasets/{id}/caption`: all but the captioner is optional."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"example": {"captioner": "florence-2", "style": "detailed_caption"}},
    )

    captioner: CaptionerName = Field(strict=False, description="See `GET /api/captioners/`.")
    style: Name | None = Field(None, description="One of the captioner's; default: the dataset's `caption_style`.")
    prompt: Annotated[Prompt, Field(min_length=1)] | None = Field(
        None, description="For joycaption, instead of a style: what to ask, in your own words."
    )
    add_trigger_word: bool = Field(True, description="The dataset's trigger word leads every caption that lacks it.")
    overwrite: Overwrite = Field(
        Overwrite.GENERATED,
        strict=False,
        description="Which captions are replaced: none, those of captioners, or those that people wrote, too.",
    )
    only: list[Annotated[UUID, Field(strict=False)]] | None = Field(
        None, min_length=1, max_length=MAX_ONLY, description="Ids of images; default: all of the dataset."
    )
    webhook_url: WebhookUrl | None = None


async def submit(
    session: AsyncSession, settings: Settings, installed: Collection[str], dataset_id: UUID, request: CaptionRequest
) -> Captioning:
    """Write the captioning, its job, and a row for every image that is to have a caption.

    Raises NotFoundError, InputError `image_unknown` or as `wording` does, ConflictError `captioning_active` or
    `nothing_to_caption`, and UnavailableError `captioner_not_installed`, with nothing written.
    """
    dataset = await dataset_edits.hold(session, dataset_id)
    usual = dataset.dataset_metadata.get("caption_style")
    asked = wording(request.captioner, style=request.style, prompt=request.prompt, usual_style=usual)
    images = _chosen(await datasets.images(session, dataset_id), request)
    if request.captioner not in installed:
        raise locate.captioner_not_installed(request.captioner)
    for other in await active(session, dataset_id):
        raise ConflictError(
            "This dataset is being captioned already.",
            code="captioning_active",
            value=str(other),
            hint="Wait for its end, or cancel its job.",
        )
    job = Job.new(Kind.CAPTION, webhook_url=webhooks.receiver(settings, request.webhook_url))
    row = Captioning(
        dataset_id=dataset.id,
        captioner=request.captioner.value,
        style=asked.style,
        prompt=asked.prompt,
        trigger_word=dataset.trigger_word if request.add_trigger_word else None,
        overwrite=request.overwrite.value,
        total=len(images),
        task_id=job.id,
        created_at=job.created_at,
    )
    session.add_all((job, row))
    await session.flush()
    session.add_all(_image_row(row, image, number) for number, image in enumerate(images))
    await session.flush()
    return row


def _chosen(images: Sequence[DatasetImage], request: CaptionRequest) -> list[DatasetImage]:
    if request.only is not None:
        unknown = set(request.only) - {image.id for image in images}
        if unknown:
            first = next(image_id for image_id in request.only if image_id in unknown)
            raise InputError(f"The dataset has no image {first}.", code="image_unknown", value=str(first))
        images = [image for image in images if image.id in set(request.only)]
    chosen = [image for image in images if is_wanted(image.caption, image.caption_source, request.overwrite)]
    if not chosen:
        raise ConflictError(
            "There is nothing to caption: every image has a caption that is to be kept.",
            code="nothing_to_caption",
            value=request.overwrite.value,
            hint="Choose `overwrite`: `generated` replaces those of captioners, `everything` those of people, too.",
        )
    return chosen


def _image_row(row: Captioning, image: DatasetImage, number: int) -> CaptioningImage:
    return CaptioningImage(
        captioning_id=row.id,
        image_id=image.id,
        filename=image.filename,
        before=image.caption,
        created_at=row.created_at - timedelta(microseconds=number),
    )


# ---- read --------------------------------------------------------------------------------------------------------


async def get(session: AsyncSession, captioning_id: UUID) -> Captioning:
    row = await session.get(Captioning, captioning_id)
    if row is None:
        raise NotFoundError(
            "There is no captioning with this id.", code="captioning_not_found", value=str(captioning_id)
        )
    return row


async def images(session: AsyncSession, captioning_id: UUID) -> list[CaptioningImage]:
    """In the order of the dataset."""
    mine = sa.select(CaptioningImage).where(col(CaptioningImage.captioning_id) == captioning_id)
    return list(await session.scalars(mine.order_by(col(CaptioningImage.created_at).desc())))


async def active(session: AsyncSession, dataset_id: UUID) -> list[UUID]:
    """The captionings of this dataset that wait or run."""
    its = col(Captioning.dataset_id) == dataset_id, col(Captioning.status).in_(ACTIVE)
    return list((await session.scalars(sa.select(col(Captioning.id)).where(*its))).all())


async def counts(session: AsyncSession, captioning_ids: Collection[UUID]) -> dict[UUID, dict[str, int]]:
    """How many images of each captioning have each status."""
    found: dict[UUID, dict[str, int]] = {each: {status.value: 0 for status in ImageStatus} for each in captioning_ids}
    per = col(CaptioningImage.captioning_id), col(CaptioningImage.status)
    query = sa.select(*per, sa.func.count()).where(per[0].in_(captioning_ids)).group_by(*per)
    for captioning_id, status, count in await session.execute(query):
        found[captioning_id][status] = count
    return found


def task_of(row: Captioning) -> UUID:
    """The job of this captioning; every one has one from the transaction that made it."""
    if row.task_id is None:
        raise RuntimeError(f"captioning {row.id} has no job")
    return row.task_id
