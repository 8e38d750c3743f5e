"""`/api/assets`: the pictures, and their files."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field, computed_field
from sqlmodel import col

from api.models import GeneratedAsset
from api.routes.canvas_door import asset_url
from api.routes.deps import Cursor, IdPath, Limit, ResourcesDep, SessionDep, SettingsDep
from api.routes.files import stored_file
from api.routes.jobs import cancel_and_announce
from api.routes.once import OnceDep
from api.routes.problems import responses
from api.routes.waiting import EXAMPLE as WAITING_EXAMPLE
from api.routes.waiting import Waits, with_place, with_places
from api.services import generation
from api.services.pages import page

router = APIRouter(prefix="/api/assets", tags=["assets"])

AssetStatus = Literal["pending", "generating", "completed", "failed", "cancelled"]
EXAMPLE: dict[str, Any] = {
    "id": "2b116f1c-3a0b-4c57-9d5e-0d6f3c8f9f8e",
    "model_id": None,
    "asset_type": "image",
    "prompt": "a photo of ohwx on a blue background",
    "negative_prompt": "",
    "generation_config": {
        "base_model": "flux-dev",
        "seed": 7,
        "width": 1024,
        "height": 1024,
        "loras": [],
        "output": {"width": 1024, "height": 1024, "seconds": {"sampling": 11.2, "storing": 0.1}},
    },
    "file_size_mb": 1.4,
    "status": "completed",
    "task_id": "0d6f3c8f-2b11-4c57-9d5e-6f1c9f8e3a0b",
    "error_message": None,
    "created_at": "2026-11-22T10:00:00Z",
    "completed_at": "2026-11-22T10:00:12Z",
    "canvas_url": "/comfyui/?asset=2b116f1c-3a0b-4c57-9d5e-0d6f3c8f9f8e",
    **WAITING_EXAMPLE,
}


class AssetOut(Waits):
    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": EXAMPLE})

    id: UUID
    model_id: UUID | None
    asset_type: str
    prompt: str
    negative_prompt: str
    generation_config: dict[str, Any] = Field(description="What was asked, the seed, and `output` once it is made.")
    file_size_mb: float | None
    status: AssetStatus
    task_id: UUID
    error_message: str | None
    created_at: datetime
    completed_at: datetime | None

    @computed_field(description="Opens this picture's graph in ComfyUI's canvas, in a browser.")  # type: ignore[prop-decorator]
    @property
    def canvas_url(self) -> str | None:
        return asset_url(self.id) if self.status == "completed" else None

    def waiting_job(self) -> UUID | None:
        return self.task_id if self.status == "pending" else None


class AssetList(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": {"items": [EXAMPLE], "next_cursor": None}})

    items: list[AssetOut]
    next_cursor: str | None


@router.get("/", responses=responses(422))
async def list_assets(
    session: SessionDep,
    settings: SettingsDep,
    limit: Limit = 50,
    cursor: Cursor = None,
    status: Annotated[AssetStatus | None, Query()] = None,
    asset_type: Annotated[Literal["image", "video"] | None, Query()] = None,
    model_id: Annotated[UUID | None, Query()] = None,
) -> AssetList:
    where = [col(GeneratedAsset.status) == status] if status else []
    where += [col(GeneratedAsset.asset_type) == asset_type] if asset_type else []
    where += [col(GeneratedAsset.model_id) == model_id] if model_id else []
    found = await page(session, GeneratedAsset, limit=limit, cursor=cursor, where=where)
    items = await with_places(session, settings, [AssetOut.model_validate(row) for row in found.items])
    return AssetList(items=items, next_cursor=found.next_cursor)


@router.get("/{asset_id}", responses=responses(404, 422))
async def get_asset(session: SessionDep, settings: SettingsDep, asset_id: IdPath) -> AssetOut:
    return await with_place(session, settings, AssetOut.model_validate(await generation.get(session, asset_id)))


@router.get(
    "/{asset_id}/file",
    responses={**responses(404, 409, 422), 200: {"content": {"image/png": {}}}},
    response_class=Response,
)
async def get_asset_file(session: SessionDep, resources: ResourcesDep, asset_id: IdPath) -> Response:
    """The picture, with range requests; from a bucket as a redirect to a link that works for an hour."""
    asset = await generation.get(session, asset_id)
    key = generation.require_file(asset)
    return await stored_file(resources.storage, key, filename=f"{asset.id}.png", media_type="image/png", inline=True)


@router.delete("/{asset_id}", status_code=204, responses=responses(404, 409, 422))
async def delete_asset(session: SessionDep, asset_id: IdPath) -> None:
    """Remove a finished, failed or cancelled asset and its file."""
    await generation.delete(session, asset_id)


@router.post("/{asset_id}/cancel", responses=responses(404, 409, 422), response_model=AssetOut)
async def cancel_asset(session: SessionDep, resources: ResourcesDep, once: OnceDep, asset_id: IdPath) -> Any:
    """A waiting asset is cancelled at once, a running one within seconds; asking again changes nothing."""

    async def work() -> AssetOut:
        asset = await generation.get(session, asset_id)
        await cancel_and_announce(session, resources, generation.task_of(asset))
        await session.refresh(asset)
        return AssetOut.model_validate(asset)

    return await once({}, 200, work)
