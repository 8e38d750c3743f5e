"""`/api/models`: trained and imported LoRAs: found, named, deleted and restored."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict
from sqlmodel import col

from api.domain.text import Name
from api.models import Model
from api.routes.deps import Cursor, IdPath, Limit, ResourcesDep, SessionDep
from api.routes.files import stored_file
from api.routes.once import OnceDep
from api.routes.problems import responses
from api.services import loras
from api.services.loras import ModelChanges
from api.services.pages import page

router = APIRouter(prefix="/api/models", tags=["models"])

EXAMPLE: dict[str, Any] = {
    "id": "9d5e6f1c-3a0b-4c57-2b11-0d6f3c8f9f8e",
    "training_session_id": "1c9f8e6f-3a0b-4c57-9d5e-0d6f3c8f2b11",
    "name": "ohwx",
    "version": 1,
    "model_type": "flux_image",
    "base_model": "flux-dev",
    "file_name": "ohwx-1a2b3c4d.safetensors",
    "file_size_mb": 171.9,
    "trigger_word": "ohwx",
    "model_metadata": {"rank": 32, "alpha": 16.0, "steps": 2000},
    "created_at": "2026-11-22T11:00:00Z",
    "deleted_at": None,
}


ModelType = Literal["flux_image", "hunyuan_video", "wan_video", "qwen_image", "sd_image", "sd3_image", "sdxl_image"]
"""As `domain.lora_family.MODEL_TYPES` has them."""


class ModelOut(BaseModel):
    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": EXAMPLE}, protected_namespaces=())

    id: UUID
    training_session_id: UUID | None
    name: str
    version: int
    model_type: str
    base_model: str
    file_name: str
    file_size_mb: float
    trigger_word: str | None
    model_metadata: dict[str, Any]
    created_at: datetime
    deleted_at: datetime | None


class ModelList(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": {"items": [EXAMPLE], "next_cursor": None}})

    items: list[ModelOut]
    next_cursor: str | None


@router.get("/", responses=responses(422))
async def list_models(
    session: SessionDep,
    limit: Limit = 50,
    cursor: Cursor = None,
    model_type: Annotated[ModelType | None, Query()] = None,
    base_model: Annotated[Name | None, Query()] = None,
    deleted: Annotated[bool, Query(description="Those that were deleted and can be restored, instead.")] = False,
) -> ModelList:
    where: list[sa.ColumnElement[bool]] = [loras.DELETED if deleted else loras.VISIBLE]
    where += [col(Model.model_type) == model_type] if model_type else []
    where += [col(Model.base_model) == base_model] if base_model else []
    found = await page(session, Model, limit=limit, cursor=cursor, where=where)
    return ModelList(items=[ModelOut.model_validate(row) for row in found.items], next_cursor=found.next_cursor)


@router.get("/{model_id}", responses=responses(404, 422))
async def get_model(session: SessionDep, model_id: IdPath) -> ModelOut:
    return ModelOut.model_validate(await loras.get(session, model_id))


@router.get(
    "/{model_id}/file",
    responses={**responses(404, 422), 200: {"content": {"application/octet-stream": {}}}},
    response_class=Response,
)
async def get_model_file(session: SessionDep, resources: ResourcesDep, model_id: IdPath) -> Response:
    """The LoRA as safetensors, ready for ComfyUI."""
    model = await loras.get(session, model_id)
    return await stored_file(
        resources.storage, model.storage_path, filename=model.file_name, media_type="application/octet-stream"
    )


@router.patch("/{model_id}", responses=responses(404, 422))
async def change_model(session: SessionDep, model_id: IdPath, changes: ModelChanges) -> ModelOut:
    """Rename the LoRA, which makes it the next version of that name, or change its trigger word; its file stays."""
    return ModelOut.model_validate(await loras.change(session, model_id, changes))


@router.delete("/{model_id}", status_code=204, responses=responses(404, 409, 422))
async def delete_model(session: SessionDep, model_id: IdPath) -> None:
    """Delete the LoRA, to be restored within MASUKA_TRASH_DAYS; refused while a picture with it is waited for."""
    await loras.delete(session, model_id)


@router.post("/{model_id}/restore", responses=responses(404, 409, 422), response_model=ModelOut)
async def restore_model(session: SessionDep, once: OnceDep, model_id: IdPath) -> Any:
    """Bring back a deleted LoRA; one that is not deleted stays as it is."""

    async def work() -> ModelOut:
        return ModelOut.model_validate(await loras.restore(session, model_id))

    return await once({}, 200, work)
