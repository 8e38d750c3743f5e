"""`GET /api/training/{id}/samples` and `/samples.png`: what the trainer drew on its way."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from api.domain.samples import MAX_PROMPTS
from api.domain.training import MAX_STEPS
from api.routes.deps import Cursor, IdPath, Limit, ResourcesDep, SessionDep
from api.routes.files import etag, not_modified
from api.routes.problems import responses
from api.services import sample_sheets, samples, trainings

router = APIRouter(prefix="/api/training", tags=["training"])

ASSET = "2b116f1c-3a0b-4c57-9d5e-0d6f3c8f9f8e"
EXAMPLE: dict[str, Any] = {
    "step": 500,
    "position": 0,
    "prompt": "a photo of ohwx",
    "asset_id": ASSET,
    "file_url": f"/api/assets/{ASSET}/file",
    "thumbnail_url": f"/api/assets/{ASSET}/thumbnail",
    "created_at": "2026-11-22T10:10:00Z",
}


class SampleOut(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    step: int
    position: int = Field(description="Of its prompt in `prompts`.")
    prompt: str
    asset_id: UUID
    file_url: str
    thumbnail_url: str
    created_at: datetime


class SampleList(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "prompts": ["a photo of ohwx", "ohwx by a lake in the mountains"],
                "seed": 42,
                "items": [EXAMPLE],
                "next_cursor": None,
            }
        }
    )

    prompts: list[str] = Field(description="What is drawn at every training checkpoint; none: nothing is.")
    seed: int | None = Field(description="Of all of them, always the same.")
    items: list[SampleOut] = Field(description="Newest first.")
    next_cursor: str | None


@router.get("/{session_id}/samples", responses=responses(404, 422))
async def list_samples(
    session: SessionDep,
    session_id: IdPath,
    limit: Limit = 50,
    cursor: Cursor = None,
    step: Annotated[int | None, Query(ge=0, le=MAX_STEPS, description="Of this step alone.")] = None,
    position: Annotated[int | None, Query(ge=0, lt=MAX_PROMPTS, description="Of this prompt alone.")] = None,
) -> SampleList:
    """By step and prompt. Each is an asset too, found in the gallery by the tag `sample`."""
    row = await trainings.get(session, session_id)
    found = await samples.listed(session, row.id, limit=limit, cursor=cursor, step=step, position=position)
    items = [
        SampleOut(
            step=each.sample.step,
            position=each.sample.position,
            prompt=each.asset.prompt,
            asset_id=each.asset.id,
            file_url=f"/api/assets/{each.asset.id}/file",
            thumbnail_url=f"/api/assets/{each.asset.id}/thumbnail",
            created_at=each.sample.created_at,
        )
        for each in found.items
    ]
    config = row.config
    return SampleList(
        prompts=config.get("sample_prompts") or [],
        seed=config.get("sample_seed"),
        items=items,
        next_cursor=found.next_cursor,
    )


@router.get(
    "/{session_id}/samples.png",
    responses={**responses(404, 409, 422, 503), 200: {"content": {"image/png": {}}}},
    response_class=Response,
)
async def get_sample_sheet(
    request: Request,
    session: SessionDep,
    resources: ResourcesDep,
    session_id: IdPath,
    side: Annotated[int, Query(ge=32, le=512, description="Largest side of a picture, in pixels.")] = 192,
    columns: Annotated[Literal["steps", "prompts"], Query(description="What goes from left to right.")] = "steps",
) -> Response:
    """All in one picture, steps by prompts; of many steps an even choice with the first and the last."""
    row = await trainings.get(session, session_id)
    shown = await sample_sheets.contents(session, row.id)
    tag = etag(*(each.asset.storage_path for each in shown), side, columns)
    if (answer := not_modified(request, tag)) is not None:
        return answer
    drawn = await sample_sheets.draw(
        resources.storage, resources.settings, shown, side, row.name, transposed=columns == "prompts"
    )
    return Response(drawn, media_type="image/png", headers={"ETag": tag, "Cache-Control": "private, no-cache"})
