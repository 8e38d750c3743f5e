"""`/api/datasets/{id}/versions`: what a dataset was at some time, and the way back."""

from datetime import datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import col

from api.models import DatasetVersion, DatasetVersionImage
from api.routes.datasets import IMAGE_EXAMPLE, ImageOut
from api.routes.deps import Cursor, IdPath, Limit, SessionDep
from api.routes.once import OnceDep
from api.routes.preconditions import IfMatch, revision
from api.routes.problems import responses
from api.services import dataset_versions, datasets
from api.services.pages import page

router = APIRouter(prefix="/api/datasets", tags=["datasets"])

EXAMPLE: dict[str, Any] = {
    "id": "0b822cd1-5d6c-45b0-8f00-a089f86d0818",
    "dataset_id": "6f1c9f8e-3a0b-4c57-9d5e-0d6f3c8f2b11",
    "number": 2,
    "sha256": "84c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a089f86d081a",
    "trigger_word": "ohwx",
    "image_count": 20,
    "created_at": "2026-11-22T10:10:00Z",
}


class VersionOut(BaseModel):
    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": EXAMPLE})

    id: UUID
    dataset_id: UUID
    number: int = Field(description="1 for the first of its dataset.")
    sha256: str = Field(description="Of trigger word, pictures and captions: equal for what is equal.")
    trigger_word: str | None
    image_count: int
    created_at: datetime


class VersionDetail(VersionOut):
    model_config = ConfigDict(json_schema_extra={"example": {**EXAMPLE, "images": [IMAGE_EXAMPLE]}})

    images: list[ImageOut]


class VersionList(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": {"items": [EXAMPLE], "next_cursor": None}})

    items: list[VersionOut]
    next_cursor: str | None


class Restored(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={"example": {"revision": 9, "version": EXAMPLE, "before": {**EXAMPLE, "number": 3}}}
    )

    revision: int = Field(description="Of the dataset now.")
    version: VersionOut = Field(description="What the dataset is now.")
    before: VersionOut = Field(description="What it was; restore it to undo this.")


@router.get("/{dataset_id}/versions", responses=responses(404, 422))
async def list_versions(
    session: SessionDep, dataset_id: IdPath, limit: Limit = 50, cursor: Cursor = None
) -> VersionList:
    """Newest first."""
    await datasets.get(session, dataset_id)
    mine = [col(DatasetVersion.dataset_id) == dataset_id]
    found = await page(session, DatasetVersion, limit=limit, cursor=cursor, where=mine)
    return VersionList(items=[VersionOut.model_validate(row) for row in found.items], next_cursor=found.next_cursor)


@router.post("/{dataset_id}/versions", status_code=201, responses=responses(404, 409, 422), response_model=VersionOut)
async def keep_version(session: SessionDep, once: OnceDep, dataset_id: IdPath) -> Any:
    """Keep the dataset as it is now, as every training does that starts; the same content is the same version."""

    async def work() -> VersionOut:
        return VersionOut.model_validate(await dataset_versions.current(session, dataset_id))

    return await once({}, 201, work)


@router.get("/{dataset_id}/versions/{version_id}", responses=responses(404, 422))
async def get_version(session: SessionDep, dataset_id: IdPath, version_id: IdPath) -> VersionDetail:
    """A version with its images and captions."""
    await datasets.get(session, dataset_id)
    version = await dataset_versions.get(session, dataset_id, version_id)
    images = [_image(image) for image in await dataset_versions.images(session, version_id)]
    return VersionDetail(**VersionOut.model_validate(version).model_dump(), images=images)


def _image(image: DatasetVersionImage) -> ImageOut:
    return ImageOut.model_validate({**image.model_dump(), "id": image.image_id})


@router.post(
    "/{dataset_id}/versions/{version_id}/restore", responses=responses(404, 409, 412, 422), response_model=Restored
)
async def restore_version(
    session: SessionDep, once: OnceDep, dataset_id: IdPath, version_id: IdPath, if_match: IfMatch = None
) -> Any:
    """Make the dataset what it was: images, order, names, captions, trigger word. What it is now is kept, too."""

    async def work() -> Restored:
        version, before = await dataset_versions.restore(session, dataset_id, version_id, revision=revision(if_match))
        return Restored(
            revision=version.revision,
            version=VersionOut.model_validate(version),
            before=VersionOut.model_validate(before),
        )

    return await once({"if_match": if_match}, 200, work)


@router.delete("/{dataset_id}/versions/{version_id}", status_code=204, responses=responses(404, 409, 422))
async def delete_version(session: SessionDep, dataset_id: IdPath, version_id: IdPath) -> None:
    """Forget a version, and the files that nothing else needs; refused while a training session names it."""
    await dataset_versions.delete(session, dataset_id, version_id)
