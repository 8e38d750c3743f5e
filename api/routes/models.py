"""`/api/models`: trained and imported LoRAs."""

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict
from sqlmodel import col

from api.domain.text import Name
from api.domain.upload import UploadLimits
from api.errors import InputError
from api.models import Model
from api.routes.deps import Cursor, IdPath, Limit, ResourcesDep, SessionDep, SettingsDep
from api.routes.files import stored_file
from api.routes.form_fields import parse_fields
from api.routes.multipart import receive_multipart
from api.routes.once import OnceDep
from api.routes.problems import responses
from api.scratch import scratch
from api.services import loras
from api.services.lora_intake import ImportForm, register
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
}


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


class ModelList(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": {"items": [EXAMPLE], "next_cursor": None}})

    items: list[ModelOut]
    next_cursor: str | None


IMPORT_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["name", "base_model", "file"],
                    "properties": {
                        "name": {"type": "string", "minLength": 1, "maxLength": 100},
                        "base_model": {"type": "string"},
                        "trigger_word": {"type": "string", "maxLength": 100},
                        "file": {"type": "string", "format": "binary", "description": "A .safetensors LoRA."},
                    },
                },
                "example": {"name": "ohwx", "base_model": "flux-dev", "file": "ohwx.safetensors"},
            }
        },
    }
}


@router.get("/", responses=responses(422))
async def list_models(
    session: SessionDep,
    limit: Limit = 50,
    cursor: Cursor = None,
    model_type: Annotated[Literal["flux_image", "hunyuan_video", "wan_video"] | None, Query()] = None,
    base_model: Annotated[Name | None, Query()] = None,
) -> ModelList:
    where = [col(Model.model_type) == model_type] if model_type else []
    where += [col(Model.base_model) == base_model] if base_model else []
    found = await page(session, Model, limit=limit, cursor=cursor, where=where)
    return ModelList(items=[ModelOut.model_validate(row) for row in found.items], next_cursor=found.next_cursor)


@router.post(
    "/import",
    status_code=201,
    responses=responses(400, 409, 413, 422, 503),
    response_model=ModelOut,
    openapi_extra=IMPORT_BODY,
)
async def import_model(
    request: Request, session: SessionDep, resources: ResourcesDep, settings: SettingsDep, once: OnceDep
) -> Any:
    """Take a LoRA made elsewhere: checked against the base model before it is kept."""
    limits = UploadLimits.of(settings)
    limits = replace(limits, file_bytes=limits.total_bytes)  # MASUKA_MAX_FILE_MB is for pictures; LoRAs are larger
    async with scratch(settings) as workdir:
        received = await receive_multipart(request, workdir / "upload", limits)
        form = parse_fields(received.fields, ImportForm)
        if len(received.files) != 1:
            raise InputError(
                f"Send exactly one file, got {len(received.files)}.", code="one_file_needed", value=len(received.files)
            )
        file = received.files[0]

        async def work() -> ModelOut:
            model = await register(resources.sessions, session, resources.storage, settings, form, file.path)
            return ModelOut.model_validate(model)

        return await once({"form": form.model_dump(), "file": await once.hashes([file.path])}, 201, work)


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


@router.delete("/{model_id}", status_code=204, responses=responses(404, 409, 422))
async def delete_model(session: SessionDep, model_id: IdPath) -> None:
    """Remove the LoRA and its file; refused while a picture with it is waited for."""
    await loras.delete(session, model_id)
