"""`/api/datasets/{id}/images`: the images of a dataset, listed, added, replaced and removed."""

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import col

from api.domain.dataset_content import image_tag
from api.domain.upload import UploadLimits
from api.errors import InputError
from api.models import DatasetImage
from api.routes.datasets import IMAGE_EXAMPLE, FileReport, ImageOut
from api.routes.deps import Cursor, IdPath, Limit, ResourcesDep, SessionDep, SettingsDep
from api.routes.form_fields import parse_fields
from api.routes.multipart import receive_multipart
from api.routes.once import OnceDep
from api.routes.preconditions import IfMatch, etag, revision, tags
from api.routes.problems import responses
from api.scratch import scratch
from api.services import dataset_images, datasets
from api.services.dataset_images import Kept
from api.services.pages import ordered_page

router = APIRouter(prefix="/api/datasets", tags=["datasets"])


class ImageList(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": {"items": [IMAGE_EXAMPLE], "next_cursor": None}})

    items: list[ImageOut]
    next_cursor: str | None


class ImagesAdded(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "revision": 4,
                "image_count": 21,
                "images": [IMAGE_EXAMPLE],
                "files": [{"filename": "1.png", "status": "taken", "reason": ""}],
            }
        }
    )

    revision: int
    image_count: int = Field(description="Of the dataset now.")
    images: list[ImageOut] = Field(description="The new ones.")
    files: list[FileReport] = Field(description="A word on every file of the upload.")


class NoFields(BaseModel):
    """Of a form that is files alone."""

    model_config = ConfigDict(extra="forbid")


def _upload_body(schema: dict[str, Any], example: Any) -> dict[str, Any]:
    (name,) = schema
    whole = {"type": "object", "required": [name], "properties": schema}
    content = {"multipart/form-data": {"schema": whole, "example": {name: example}}}
    return {"requestBody": {"required": True, "content": content}}


FILE = {"type": "string", "format": "binary"}
ADD_BODY = _upload_body(
    {"files": {"type": "array", "items": FILE, "description": "As for a new dataset."}}, ["2.png", "2.txt"]
)
REPLACE_BODY = _upload_body({"file": {**FILE, "description": "One PNG, JPEG or WebP picture."}}, "2.png")


@router.get("/{dataset_id}/images", responses=responses(404, 422))
async def list_images(session: SessionDep, dataset_id: IdPath, limit: Limit = 50, cursor: Cursor = None) -> ImageList:
    """In the order of the dataset, by pages."""
    await datasets.get(session, dataset_id)
    mine = col(DatasetImage.dataset_id) == dataset_id
    found = await ordered_page(session, DatasetImage, mine, limit=limit, cursor=cursor)
    return ImageList(items=[ImageOut.model_validate(row) for row in found.items], next_cursor=found.next_cursor)


@router.post(
    "/{dataset_id}/images",
    status_code=201,
    response_model=ImagesAdded,
    responses=responses(400, 404, 409, 412, 413, 422),
    openapi_extra=ADD_BODY,
)
async def add_images(
    request: Request,
    resources: ResourcesDep,
    settings: SettingsDep,
    session: SessionDep,
    once: OnceDep,
    dataset_id: IdPath,
    if_match: IfMatch = None,
) -> Any:
    """Add pictures (with captions), or one zip, behind those that are there; what is there already is refused."""
    limits = UploadLimits.of(settings)
    async with resources.sessions() as first:
        await datasets.get(first, dataset_id)
    async with scratch(settings) as workdir:
        received = await receive_multipart(request, workdir / "upload", limits)
        parse_fields(received.fields, NoFields)

        async def work() -> ImagesAdded:
            kept = Kept(resources.sessions, resources.storage, limits, workdir / "intake")
            added = await dataset_images.add(session, kept, dataset_id, received.files, revision=revision(if_match))
            return ImagesAdded(
                revision=added.dataset.revision,
                image_count=added.dataset.image_count,
                images=[ImageOut.model_validate(row) for row in added.images],
                files=[FileReport.model_validate(entry) for entry in added.report],
            )

        hashes = await once.hashes([file.path for file in received.files])
        names = [file.filename for file in received.files]
        return await once({"if_match": if_match, "names": names, "files": hashes}, 201, work)


@router.get("/{dataset_id}/images/{image_id}", responses=responses(404, 422))
async def get_image(session: SessionDep, response: Response, dataset_id: IdPath, image_id: IdPath) -> ImageOut:
    """Its ETag is good for `If-Match` on a change of this image."""
    row = await dataset_images.get(session, dataset_id, image_id)
    response.headers.update(etag(image_tag(row)))
    return ImageOut.model_validate(row)


@router.put(
    "/{dataset_id}/images/{image_id}",
    responses=responses(400, 404, 409, 412, 413, 422),
    openapi_extra=REPLACE_BODY,
)
async def replace_image(
    request: Request,
    response: Response,
    resources: ResourcesDep,
    settings: SettingsDep,
    session: SessionDep,
    dataset_id: IdPath,
    image_id: IdPath,
    if_match: IfMatch = None,
) -> ImageOut:
    """Put another picture in the place of this one; id, position and caption stay."""
    limits = UploadLimits.of(settings)
    async with resources.sessions() as first:
        await dataset_images.get(first, dataset_id, image_id)
    async with scratch(settings) as workdir:
        received = await receive_multipart(request, workdir / "upload", limits)
        parse_fields(received.fields, NoFields)
        if len(received.files) != 1:
            raise InputError(
                f"Send exactly one file, got {len(received.files)}.", code="one_file_needed", value=len(received.files)
            )
        kept = Kept(resources.sessions, resources.storage, limits, workdir / "intake")
        row = await dataset_images.replace(session, kept, dataset_id, image_id, received.files, tags=tags(if_match))
        response.headers.update(etag(image_tag(row)))
        return ImageOut.model_validate(row)


@router.delete("/{dataset_id}/images/{image_id}", status_code=204, responses=responses(404, 412, 422))
async def remove_image(session: SessionDep, dataset_id: IdPath, image_id: IdPath, if_match: IfMatch = None) -> None:
    """Remove an image; a version that has it can be restored."""
    await dataset_images.remove(session, dataset_id, image_id, tags=tags(if_match))
