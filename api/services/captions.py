"""Captions: written with who wrote them, in steps that can be undone one after the other."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.domain.caption import clean_caption
from api.domain.intake import CaptionSource
from api.errors import ConflictError
from api.models import CaptionChange, CaptionEdit, DatasetImage
from api.models.base import utcnow
from api.services import dataset_edits

STEPS_KEPT = 100
"""Of one dataset; older ones cannot be undone any more."""

_State = dict[str, Any]
"""A caption with its source and provenance, as `CaptionChange` has it."""


@dataclass(frozen=True, slots=True)
class NewCaption:
    text: str
    """One line; what is not is made one."""
    source: str = CaptionSource.MANUAL.value
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """JSON about what has written it: captioner, model, revision, prompt, when."""
    instead_of: str | None = None
    """Set only where the caption is still this one, so that what a person writes meanwhile is not lost."""
    of_picture: str | None = None
    """Set only where the picture is still the one with this SHA-256: it says nothing of one that took its place."""


async def set_captions(
    session: AsyncSession,
    dataset_id: UUID,
    captions: Mapping[UUID, NewCaption],
    *,
    what: str,
    job_id: UUID | None = None,
    revision: int | None = None,
) -> set[UUID]:
    """Write captions by image id as one step of the undo log; the ids of those that were written.

    Images that are gone or not `of_picture` any more, and captions that are not `instead_of` any more, are left out.
    All that one job writes, in whatever transactions, is one step: give its `job_id`. The dataset is held until the
    transaction ends.

    Raises NotFoundError `dataset_not_found`, ChangedError when the dataset is not at `revision`.
    """
    await dataset_edits.begin(session, dataset_id, revision=revision)
    changes: dict[UUID, tuple[_State, _State]] = {}
    written: set[UUID] = set()
    for row in await _rows(session, dataset_id, captions):
        new = captions[row.id]
        if new.instead_of not in (None, row.caption) or new.of_picture not in (None, row.sha256):
            continue
        before = _state(row)
        row.caption = clean_caption(new.text)
        row.caption_source = new.source if row.caption else CaptionSource.NONE.value
        row.caption_provenance = dict(new.provenance) if row.caption else {}
        written.add(row.id)
        if _state(row) != before:
            changes[row.id] = (before, _state(row))
    if changes:
        await _record(session, dataset_id, changes, what, job_id)
    return written


async def _rows(session: AsyncSession, dataset_id: UUID, ids: Collection[UUID]) -> list[DatasetImage]:
    """Read anew: what the session has seen of them before it held the dataset may be old."""
    mine = sa.select(DatasetImage).where(col(DatasetImage.dataset_id) == dataset_id, col(DatasetImage.id).in_(ids))
    fresh = mine.execution_options(populate_existing=True)
    return list(await session.scalars(fresh))


def _state(row: DatasetImage) -> _State:
    return {name: getattr(row, name) for name in ("caption", "caption_source", "caption_provenance")}


async def _record(
    session: AsyncSession,
    dataset_id: UUID,
    changes: Mapping[UUID, tuple[_State, _State]],
    what: str,
    job_id: UUID | None,
) -> None:
    edit = await _step_of(session, dataset_id, job_id) if job_id else None
    if edit is None:
        edit = await _new_step(session, dataset_id, what, job_id)
    seen = await _changes(session, edit.id, col(CaptionChange.image_id).in_(changes))
    for image_id, (before, after) in changes.items():
        if image_id in seen:  # `before` stays what it was before the step
            seen[image_id].after = after
        else:
            session.add(CaptionChange(edit_id=edit.id, image_id=image_id, before=before, after=after))
    await session.flush()


async def _step_of(session: AsyncSession, dataset_id: UUID, job_id: UUID) -> CaptionEdit | None:
    """The job's step; when that was undone meanwhile, what the job writes from now on is another one."""
    its = (col(CaptionEdit.dataset_id) == dataset_id, col(CaptionEdit.job_id) == job_id)
    open_ = sa.select(CaptionEdit).where(*its, col(CaptionEdit.undone_at).is_(None))
    edit: CaptionEdit | None = await session.scalar(open_)
    return edit


async def _new_step(session: AsyncSession, dataset_id: UUID, what: str, job_id: UUID | None) -> CaptionEdit:
    mine = col(CaptionEdit.dataset_id) == dataset_id
    last: int = await session.scalar(sa.select(sa.func.max(col(CaptionEdit.number))).where(mine)) or 0
    edit = CaptionEdit(dataset_id=dataset_id, number=last + 1, what=what, job_id=job_id)
    session.add(edit)
    await session.flush()
    await session.execute(sa.delete(CaptionEdit).where(mine, col(CaptionEdit.number) <= edit.number - STEPS_KEPT))
    return edit


async def _changes(session: AsyncSession, edit_id: UUID, *where: sa.ColumnElement[bool]) -> dict[UUID, CaptionChange]:
    rows = await session.scalars(sa.select(CaptionChange).where(col(CaptionChange.edit_id) == edit_id, *where))
    return {row.image_id: row for row in rows}


# ---- undo --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Undone:
    edit: CaptionEdit
    restored: list[UUID]
    skipped: list[UUID]
    """Of images that are gone, or whose caption was changed by other means, as by restoring a version."""


async def undo(session: AsyncSession, dataset_id: UUID, *, revision: int | None = None) -> Undone:
    """Take back the newest step that is not taken back yet.

    Raises NotFoundError `dataset_not_found`, ChangedError, ConflictError `nothing_to_undo`.
    """
    await dataset_edits.begin(session, dataset_id, revision=revision)
    mine = (col(CaptionEdit.dataset_id) == dataset_id, col(CaptionEdit.undone_at).is_(None))
    newest = sa.select(CaptionEdit).where(*mine).order_by(col(CaptionEdit.number).desc()).limit(1)
    edit: CaptionEdit | None = await session.scalar(newest)
    if edit is None:
        raise ConflictError("There is no change of captions to undo.", code="nothing_to_undo", value=str(dataset_id))
    changes = await _changes(session, edit.id)
    restored = []
    for row in await _rows(session, dataset_id, changes):
        if _state(row) == changes[row.id].after:
            for name, value in changes[row.id].before.items():
                setattr(row, name, value)
            restored.append(row.id)
    edit.undone_at = utcnow()
    await session.flush()
    return Undone(edit, restored, [image_id for image_id in changes if image_id not in restored])
