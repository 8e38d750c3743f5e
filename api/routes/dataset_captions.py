"""`/api/datasets/{id}/captions`: read, written one or many at once, searched, and undone."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import col

from api.domain.caption_search import MAX_CAPTION_CHARACTERS, Replacement
from api.domain.dataset_content import image_tag
from api.domain.text import Text
from api.errors import NotFoundError
from api.models import CaptionEdit
from api.routes.datasets import ImageOut
from api.routes.deps import Cursor, IdPath, Limit, SessionDep
from api.routes.once import OnceDep
from api.routes.preconditions import IfMatch, etag, revision, tags
from api.routes.problems import responses
from api.services import caption_search, captions, dataset_edits, dataset_images, datasets
from api.services.caption_search import Match
from api.services.captions import NewCaption
from api.services.pages import page

router = APIRouter(prefix="/api/datasets", tags=["datasets"])

IMAGE_ID = "9f86d081-884c-4d65-9a2f-eaa0c55ad015"
MAX_AT_ONCE = 10_000
CAPTION_EXAMPLE: dict[str, Any] = {
    "image_id": IMAGE_ID,
    "filename": "1.png",
    "caption": "ohwx, a portrait in front of a window",
    "caption_source": "uploaded",
    "caption_provenance": {},
}
EDIT_EXAMPLE: dict[str, Any] = {
    "id": "c15b0f00-a089-4f6d-8188-4c7d659a2fea",
    "number": 3,
    "what": "Replaced “woman” by “ohwx woman”",
    "job_id": None,
    "created_at": "2026-11-22T10:05:00Z",
    "undone_at": None,
}
CaptionText = Annotated[Text, Field(max_length=MAX_CAPTION_CHARACTERS, description="Made one line.")]


class CaptionOut(BaseModel):
    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": CAPTION_EXAMPLE})

    image_id: UUID = Field(validation_alias="id")
    filename: str
    caption: str
    caption_source: str
    caption_provenance: dict[str, Any]


class Captions(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": {"revision": 3, "items": [CAPTION_EXAMPLE]}})

    revision: int
    items: list[CaptionOut] = Field(description="All, in the order of the dataset.")


class CaptionIn(BaseModel):
    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"caption": "ohwx, a portrait"}})

    caption: CaptionText


class NamedCaption(CaptionIn):
    image_id: UUID


class CaptionChanges(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"example": {"captions": [{"image_id": IMAGE_ID, "caption": "ohwx, a portrait"}]}},
    )

    captions: list[NamedCaption] = Field(min_length=1, max_length=MAX_AT_ONCE)


class ReplaceRequest(Replacement):
    model_config = ConfigDict(
        json_schema_extra={"example": {"find": "woman", "replace": "ohwx woman", "whole_words": True, "dry_run": True}}
    )

    image_ids: list[UUID] | None = Field(None, max_length=MAX_AT_ONCE, description="Default: all.")
    dry_run: bool = Field(False, description="Show what would be changed, and change nothing.")


class MatchOut(BaseModel):
    image_id: UUID
    filename: str
    before: str
    after: str
    count: int


class Replaced(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "dry_run": True,
                "revision": 3,
                "matches": [
                    {
                        "image_id": IMAGE_ID,
                        "filename": "1.png",
                        "before": "a woman",
                        "after": "a ohwx woman",
                        "count": 1,
                    }
                ],
            }
        }
    )

    dry_run: bool
    revision: int = Field(description="After a dry run good for `If-Match`: then just what was shown is done.")
    matches: list[MatchOut]


class EditOut(BaseModel):
    """A step of the undo log."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": EDIT_EXAMPLE})

    id: UUID
    number: int
    what: str
    job_id: UUID | None = Field(description="Of the captioning that wrote it.")
    created_at: datetime
    undone_at: datetime | None


class EditList(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": {"items": [EDIT_EXAMPLE], "next_cursor": None}})

    items: list[EditOut]
    next_cursor: str | None


class UndoneOut(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "edit": {**EDIT_EXAMPLE, "undone_at": "2026-11-22T10:06:00Z"},
                "restored": [IMAGE_ID],
                "skipped": [],
            }
        }
    )

    edit: EditOut
    restored: list[UUID] = Field(description="Images whose caption is again what it was before.")
    skipped: list[UUID] = Field(description="Images that are gone, or whose caption came from a restored version.")


@router.get("/{dataset_id}/captions", responses=responses(404, 422))
async def get_captions(session: SessionDep, response: Response, dataset_id: IdPath) -> Captions:
    """All captions; the ETag is good for `If-Match` on a change of many."""
    dataset = await datasets.get(session, dataset_id)
    response.headers.update(etag(dataset.revision))
    rows = await datasets.images(session, dataset_id)
    return Captions(revision=dataset.revision, items=[CaptionOut.model_validate(row) for row in rows])


@router.patch("/{dataset_id}/captions", responses=responses(404, 412, 422))
async def change_captions(
    session: SessionDep, dataset_id: IdPath, body: CaptionChanges, if_match: IfMatch = None
) -> Captions:
    """Write some captions as one step that can be undone: all of them or none; answers those."""
    dataset = await dataset_edits.hold(session, dataset_id)
    new = {named.image_id: NewCaption(named.caption) for named in body.captions}
    rows = [row for row in await datasets.images(session, dataset_id) if row.id in new]
    _require_known(new.keys() - {row.id for row in rows})
    what = f"Wrote {len(new)} caption{'s' if len(new) > 1 else ''}"
    await captions.set_captions(session, dataset_id, new, what=what, revision=revision(if_match))
    return Captions(revision=dataset.revision, items=[CaptionOut.model_validate(row) for row in rows])


@router.put("/{dataset_id}/captions/{image_id}", responses=responses(404, 412, 422))
async def write_caption(
    session: SessionDep,
    response: Response,
    dataset_id: IdPath,
    image_id: IdPath,
    body: CaptionIn,
    if_match: IfMatch = None,
) -> ImageOut:
    """Write one caption, a step that can be undone; `If-Match` takes the ETag of the image."""
    await dataset_edits.hold(session, dataset_id)
    row = await dataset_images.unchanged(session, dataset_id, image_id, tags(if_match))
    await captions.set_captions(session, dataset_id, {image_id: NewCaption(body.caption)}, what="Wrote 1 caption")
    response.headers.update(etag(image_tag(row)))
    return ImageOut.model_validate(row)


@router.post("/{dataset_id}/captions/replace", responses=responses(404, 409, 412, 422), response_model=Replaced)
async def replace_in_captions(
    session: SessionDep, once: OnceDep, dataset_id: IdPath, body: ReplaceRequest, if_match: IfMatch = None
) -> Any:
    """Find and replace as one step that can be undone; with `dry_run` it is only shown."""

    async def work() -> Replaced:
        dataset = await datasets.get(session, dataset_id)
        chosen = None if body.image_ids is None else set(body.image_ids)
        if body.dry_run:
            found = await caption_search.matches(session, dataset_id, body, chosen)
        else:
            found = await caption_search.replace(session, dataset_id, body, chosen, revision=revision(if_match))
        return Replaced(dry_run=body.dry_run, revision=dataset.revision, matches=[_shown(match) for match in found])

    return await once({**body.model_dump(mode="json"), "if_match": if_match}, 200, work)


def _shown(match: Match) -> MatchOut:
    about = {"before": match.before, "after": match.after, "count": match.count}
    return MatchOut(image_id=match.image.id, filename=match.image.filename, **about)


def _require_known(unknown: set[UUID]) -> None:
    if unknown:
        first = min(str(image_id) for image_id in unknown)
        raise NotFoundError("This dataset has no image with this id.", code="image_not_found", value=first)


@router.get("/{dataset_id}/captions/edits", responses=responses(404, 422))
async def list_edits(session: SessionDep, dataset_id: IdPath, limit: Limit = 50, cursor: Cursor = None) -> EditList:
    """The undo log: changes of captions, newest first."""
    await datasets.get(session, dataset_id)
    mine = [col(CaptionEdit.dataset_id) == dataset_id]
    found = await page(session, CaptionEdit, limit=limit, cursor=cursor, where=mine)
    return EditList(items=[EditOut.model_validate(row) for row in found.items], next_cursor=found.next_cursor)


@router.post("/{dataset_id}/captions/undo", responses=responses(404, 409, 412, 422), response_model=UndoneOut)
async def undo_captions(session: SessionDep, once: OnceDep, dataset_id: IdPath, if_match: IfMatch = None) -> Any:
    """Take back the newest change of captions that is not taken back yet; again and again, one after the other."""

    async def work() -> UndoneOut:
        undone = await captions.undo(session, dataset_id, revision=revision(if_match))
        return UndoneOut(edit=EditOut.model_validate(undone.edit), restored=undone.restored, skipped=undone.skipped)

    return await once({"if_match": if_match}, 200, work)
