"""`/api/datasets/{id}/images/{image_id}/file` and `/thumbnail`: the bytes."""

from pathlib import PurePosixPath
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from api.domain.picture_format import ThumbnailSize
from api.routes.deps import IdPath, ResourcesDep, SessionDep
from api.routes.files import etag, not_modified, stored_file
from api.routes.problems import responses
from api.services import dataset_images
from api.services.thumbnails import dataset_thumbnail

router = APIRouter(prefix="/api/datasets", tags=["datasets"])

MEDIA_TYPES = {".jpg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
"""By the key of an image, which says what its bytes are; its name may say something else."""


@router.get(
    "/{dataset_id}/images/{image_id}/file",
    responses={
        **responses(404, 422),
        200: {"content": {media_type: {} for media_type in MEDIA_TYPES.values()}},
    },
    response_class=Response,
)
async def get_image_file(
    request: Request, session: SessionDep, resources: ResourcesDep, dataset_id: IdPath, image_id: IdPath
) -> Response:
    """The picture as it is trained on, with range requests and an ETag; from a bucket as a link for an hour."""
    image = await dataset_images.get(session, dataset_id, image_id)
    tag = etag(image.key)
    if (answer := not_modified(request, tag)) is not None:
        return answer
    name, media_type = image.filename.rpartition("/")[2], MEDIA_TYPES[PurePosixPath(image.key).suffix]
    return await stored_file(resources.storage, image.key, filename=name, media_type=media_type, inline=True, etag=tag)


@router.get(
    "/{dataset_id}/images/{image_id}/thumbnail",
    responses={**responses(404, 409, 422), 200: {"content": {"image/webp": {}}}},
    response_class=Response,
)
async def get_image_thumbnail(
    request: Request,
    session: SessionDep,
    resources: ResourcesDep,
    dataset_id: IdPath,
    image_id: IdPath,
    size: Annotated[ThumbnailSize, Query(description="Fits into 256, 512 or 1024 pixels.")] = ThumbnailSize.SMALL,
) -> Response:
    """A small WebP, made once when it is first asked for; never larger than the picture."""
    image = await dataset_images.get(session, dataset_id, image_id)
    tag = etag(image.key, size)
    if (answer := not_modified(request, tag)) is not None:
        return answer
    key = await dataset_thumbnail(resources, image, size)
    return await stored_file(
        resources.storage, key, filename=f"{image.id}-{size}.webp", media_type="image/webp", inline=True, etag=tag
    )
