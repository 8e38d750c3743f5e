"""Find and replace in the captions of a dataset: shown first, or done as one step of the undo log."""

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.domain.caption_search import MAX_CAPTION_CHARACTERS, Replacement
from api.domain.intake import CaptionSource
from api.errors import InputError
from api.models import DatasetImage
from api.services import captions, dataset_edits, datasets
from api.services.captions import NewCaption


@dataclass(frozen=True, slots=True)
class Match:
    image: DatasetImage
    before: str
    after: str
    count: int
    """How often it was found."""


async def matches(
    session: AsyncSession, dataset_id: UUID, wanted: Replacement, image_ids: Collection[UUID] | None
) -> list[Match]:
    """In the order of the dataset; of all images when none are named.

    Raises InputError `caption_too_long` when a caption would be.
    """
    found = []
    for image in await datasets.images(session, dataset_id):
        if image_ids is not None and image.id not in image_ids:
            continue
        after, count = wanted.apply(image.caption)
        if len(after) > MAX_CAPTION_CHARACTERS:
            raise InputError(
                f"The caption of {image.filename} would have more than {MAX_CAPTION_CHARACTERS:,} characters.",
                code="caption_too_long",
                value=str(image.id),
            )
        if count:
            found.append(Match(image, image.caption, after, count))
    return found


async def replace(
    session: AsyncSession,
    dataset_id: UUID,
    wanted: Replacement,
    image_ids: Collection[UUID] | None,
    *,
    revision: int | None = None,
) -> list[Match]:
    """Do it, as one step. A caption that nobody has written, but for the trigger word, stays nobody's.

    Raises as `matches`, NotFoundError, ChangedError.
    """
    await dataset_edits.hold(session, dataset_id)
    found = await matches(session, dataset_id, wanted, image_ids)
    new = {match.image.id: _new(match) for match in found}
    await captions.set_captions(session, dataset_id, new, what=_what(wanted), revision=revision)
    return found


def _new(match: Match) -> NewCaption:
    nobody = match.image.caption_source == CaptionSource.NONE.value
    source = CaptionSource.NONE if nobody else CaptionSource.MANUAL
    return NewCaption(match.after, source.value)


def _what(wanted: Replacement) -> str:
    return f"Replaced “{wanted.find[:100]}” by “{wanted.replace[:100]}”"
