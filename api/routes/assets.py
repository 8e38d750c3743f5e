"""`/api/assets`: the pictures, and their files."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field, computed_field

from api.domain.tags import Tags
from api.routes.asset_filters import AssetStatus, asset_filters
from api.routes.canvas_door import asset_url
from api.routes.deps import Cursor, IdPath, Limit, ResourcesDep, SessionDep, SettingsDep
from api.routes.jobs import cancel_and_announce
from api.routes.once import OnceDep
from api.routes.problems import responses
from api.routes.waiting import EXAMPLE as WAITING_EXAMPLE
from api.routes.waiting import Waits, with_place, with_places
from api.services import gallery, generation
from api.services.asset_search import Filters
from api.services.recreation import recreation

router = APIRouter(prefix="/api/assets", tags=["assets"])

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
    "seed": 7,
    "workflow": "flux_text_to_image",
    "batch_id": None,
    "favourite": False,
    "tags": ["holiday"],
    "deleted_at": None,
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
    seed: int | None
    workflow: str | None
    batch_id: UUID | None
    favourite: bool
    tags: list[str]
    deleted_at: datetime | None = Field(description="When it was deleted, in a list of what can be restored.")

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


class AssetChange(BaseModel):
    """What is left out stays as it is."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"example": {"favourite": True, "tags": ["holiday", "blue"]}}
    )

    favourite: bool | None = None
    tags: Tags | None = Field(None, description="All of them: these replace what was there.")


class RecreationOut(BaseModel):
    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "method": "POST",
                "path": "/api/workflows/flux_text_to_image/run",
                "body": {
                    "parameters": {"prompt": "a photo of ohwx on a blue background", "seed": 7, "width": 1024},
                    "base_model": "flux-dev",
                    "loras": [],
                    "add_trigger_words": True,
                    "num_images": 1,
                },
                "warnings": [],
            }
        },
    )

    method: Literal["POST"] = "POST"
    path: str
    body: dict[str, Any]
    warnings: list[str] = Field(description="Why the new picture may differ.")


@router.get("/", responses=responses(422))
async def list_assets(
    session: SessionDep,
    settings: SettingsDep,
    filters: Annotated[Filters, Depends(asset_filters)],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> AssetList:
    """Newest first; a picture is listed when every filter that is given holds of it."""
    found = await gallery.listed(session, filters, limit=limit, cursor=cursor)
    items = await with_places(session, settings, [AssetOut.model_validate(row) for row in found.items])
    return AssetList(items=items, next_cursor=found.next_cursor)


@router.get("/{asset_id}", responses=responses(404, 422))
async def get_asset(session: SessionDep, settings: SettingsDep, asset_id: IdPath) -> AssetOut:
    return await with_place(session, settings, AssetOut.model_validate(await generation.get(session, asset_id)))


@router.get("/{asset_id}/recreate", responses=responses(404, 409, 422))
async def get_recreation(session: SessionDep, asset_id: IdPath) -> RecreationOut:
    """The request that makes this picture again, as a new asset: POST `body` to `path`."""
    found = await recreation(session, await generation.get(session, asset_id))
    return RecreationOut.model_validate(found)


@router.patch("/{asset_id}", responses=responses(404, 422))
async def change_asset(session: SessionDep, settings: SettingsDep, asset_id: IdPath, body: AssetChange) -> AssetOut:
    """Mark a favourite, set tags."""
    asset = await gallery.mark(session, asset_id, favourite=body.favourite, tags=body.tags)
    return await with_place(session, settings, AssetOut.model_validate(asset))


@router.delete("/{asset_id}", status_code=204, responses=responses(404, 409, 422))
async def delete_asset(session: SessionDep, asset_id: IdPath) -> None:
    """Put a finished, failed or cancelled asset aside; it can be restored for MASUKA_TRASH_DAYS."""
    await gallery.delete(session, asset_id)


@router.post("/{asset_id}/restore", responses=responses(404, 409, 422), response_model=AssetOut)
async def restore_asset(session: SessionDep, once: OnceDep, asset_id: IdPath) -> Any:
    """Take a deleted asset back; `GET /api/assets/?deleted=true` lists them."""

    async def work() -> AssetOut:
        return AssetOut.model_validate(await gallery.restore(session, asset_id))

    return await once({}, 200, work)


@router.post("/{asset_id}/cancel", responses=responses(404, 409, 422), response_model=AssetOut)
async def cancel_asset(session: SessionDep, resources: ResourcesDep, once: OnceDep, asset_id: IdPath) -> Any:
    """A waiting asset is cancelled at once, a running one within seconds; asking again changes nothing."""

    async def work() -> AssetOut:
        asset = await generation.get(session, asset_id)
        await cancel_and_announce(session, resources, generation.task_of(asset))
        await session.refresh(asset)
        return AssetOut.model_validate(asset)

    return await once({}, 200, work)
