"""`/api/assets/{id}/file` and `/thumbnail`: a picture's bytes, in the form that is wished for."""

import asyncio
from contextlib import AsyncExitStack
from typing import Annotated, Any, Literal

import PIL
from fastapi import APIRouter, Query, Request
from fastapi.responses import Response

from api.domain import a1111
from api.domain.picture_format import DEFAULT_QUALITY, PictureFormat, Rendering, ThumbnailSize
from api.models import GeneratedAsset
from api.rendition import render
from api.resources import Resources
from api.routes.deps import IdPath, ResourcesDep, SessionDep
from api.routes.files import PassingFile, etag, not_modified, stored_file
from api.routes.problems import responses
from api.scratch import scratch
from api.services import generation
from api.services.thumbnails import thumbnail
from api.storage import on_disk

router = APIRouter(prefix="/api/assets", tags=["assets"])

PICTURES: dict[str, Any] = {format.media_type: {} for format in PictureFormat}


@router.get(
    "/{asset_id}/file",
    responses={**responses(404, 409, 422), 200: {"content": PICTURES}},
    response_class=Response,
)
async def get_asset_file(
    request: Request,
    session: SessionDep,
    resources: ResourcesDep,
    asset_id: IdPath,
    format: Annotated[PictureFormat, Query(description="PNG is what ComfyUI made.")] = PictureFormat.PNG,
    quality: Annotated[int, Query(ge=1, le=100, description="Of WebP and JPEG.")] = DEFAULT_QUALITY,
    metadata: Annotated[
        Literal["graph", "a1111"],
        Query(description="`a1111`: with a text of prompt and settings, which the canvas reads before a PNG's graph."),
    ] = "graph",
) -> Response:
    """The picture with its graph, with range requests and an ETag; a PNG from a bucket as a link for an hour."""
    asset = await generation.get(session, asset_id)
    key = generation.require_file(asset)
    text = a1111.parameters(asset.prompt, asset.negative_prompt, asset.generation_config)
    wish = Rendering(format, quality, text if metadata == "a1111" else None)
    tag = etag(key) if wish.as_stored else etag(key, wish, PIL.__version__)
    if (answer := not_modified(request, tag)) is not None:
        return answer
    name = f"{asset.id}.{format.suffix}"
    if wish.as_stored:
        return await stored_file(
            resources.storage, key, filename=name, media_type=format.media_type, inline=True, etag=tag
        )
    return await _rendered(resources, asset, key, wish, name, tag)


async def _rendered(
    resources: Resources, asset: GeneratedAsset, key: str, wish: Rendering, name: str, tag: str
) -> Response:
    """Made for this answer, and gone after it: encoding takes less than what it would take to keep every wish."""
    async with AsyncExitStack() as stack:
        folder = await stack.enter_async_context(scratch(resources.settings))
        target = folder / name
        await asyncio.to_thread(render, await on_disk(resources.storage, key, folder), target, wish)
        return PassingFile(stack.pop_all(), target, filename=name, media_type=wish.format.media_type, etag=tag)


@router.get(
    "/{asset_id}/thumbnail",
    responses={**responses(404, 409, 422), 200: {"content": {"image/webp": {}}}},
    response_class=Response,
)
async def get_asset_thumbnail(
    request: Request,
    session: SessionDep,
    resources: ResourcesDep,
    asset_id: IdPath,
    size: Annotated[ThumbnailSize, Query(description="Fits into 256, 512 or 1024 pixels.")] = ThumbnailSize.SMALL,
) -> Response:
    """A small WebP, made once when it is first asked for; never larger than the picture."""
    asset = await generation.get(session, asset_id)
    tag = etag(generation.require_file(asset), size)
    if (answer := not_modified(request, tag)) is not None:
        return answer
    key = await thumbnail(resources, asset, size)
    return await stored_file(
        resources.storage, key, filename=f"{asset.id}-{size}.webp", media_type="image/webp", inline=True, etag=tag
    )
