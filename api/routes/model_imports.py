"""`POST /api/models/import`: LoRAs made elsewhere, by upload or from the web; `/api/models/imports`: how it went."""

from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.domain.job import Queue
from api.domain.upload import BYTES_PER_MB, UploadLimits
from api.domain.web_address import shown_url
from api.errors import InputError
from api.models import ModelImport
from api.resources import Resources
from api.routes.deps import Cursor, IdPath, Limit, ResourcesDep, SessionDep, SettingsDep, after_commit
from api.routes.form_fields import parse_fields, parse_json
from api.routes.guard import is_json
from api.routes.models import EXAMPLE as MODEL_EXAMPLE
from api.routes.models import ModelOut
from api.routes.multipart import receive_multipart
from api.routes.once import Once, OnceDep
from api.routes.problems import responses
from api.scratch import scratch
from api.services import imports
from api.services.imports import ImportRequest, ImportStatus
from api.services.lora_intake import ImportForm, register
from api.services.pages import page
from api.settings import Settings

FORM_BYTES = BYTES_PER_MB
"""Of a form, around its file."""

router = APIRouter(prefix="/api/models", tags=["models"])

EXAMPLE: dict[str, Any] = {
    "id": "3a0b9d5e-6f1c-4c57-2b11-8f9f8e0d6f3c",
    "model_id": "9d5e6f1c-3a0b-4c57-2b11-0d6f3c8f9f8e",
    "duplicate": False,
    "name": "ohwx",
    "source": {"url": "https://example.com/ohwx.safetensors"},
    "sha256": None,
    "base_model": None,
    "trigger_word": None,
    "status": "completed",
    "task_id": "0d6f3c8f-2b11-4c57-9d5e-6f1c9f8e3a0b",
    "error_message": None,
    "created_at": "2026-11-22T11:00:00Z",
    "completed_at": "2026-11-22T11:00:09Z",
}
STARTED = {"import_id": EXAMPLE["id"], "task_id": EXAMPLE["task_id"], "status": "pending"}


class ModelImported(ModelOut):
    model_config = ConfigDict(json_schema_extra={"example": {**MODEL_EXAMPLE, "duplicate": False}})

    duplicate: bool = Field(description="This content was here before: it is that model, unchanged.")


class ImportStarted(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": STARTED})

    import_id: UUID
    task_id: UUID
    status: str


class ImportOut(BaseModel):
    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": EXAMPLE}, protected_namespaces=())

    id: UUID
    model_id: UUID | None = Field(description="What it has become, once it is completed.")
    duplicate: bool = Field(description="That model was here before, with the same content.")
    name: str
    source: dict[str, Any] = Field(description="`{url}`, without its query, or `{repo, file, revision}`.")
    sha256: str | None
    base_model: str | None
    trigger_word: str | None
    status: str
    task_id: UUID | None
    error_message: str | None
    created_at: datetime
    completed_at: datetime | None


class ImportList(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": {"items": [EXAMPLE], "next_cursor": None}})

    items: list[ImportOut]
    next_cursor: str | None


IMPORT_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["name", "files"],
                    "properties": {
                        "name": {"type": "string", "minLength": 1, "maxLength": 100},
                        "base_model": {"type": "string", "description": "Default: recognised by the file."},
                        "trigger_word": {"type": "string", "maxLength": 100},
                        "sha256": {"type": "string", "description": "What the content must be."},
                        "files": {"type": "string", "format": "binary", "description": "One .safetensors LoRA."},
                    },
                },
                "example": {"name": "ohwx", "files": "ohwx.safetensors"},
            },
            "application/json": {
                "schema": ImportRequest.model_json_schema(),
                "example": {"repo": "owner/ohwx-lora", "file": "ohwx.safetensors", "name": "ohwx"},
            },
        },
    }
}


@router.post(
    "/import",
    status_code=201,
    response_model=None,
    responses={
        **responses(400, 409, 413, 415, 422, 503),
        201: {"description": "Uploaded: the model.", "model": ModelImported},
        202: {"description": "From the web: follow `import_id` or `task_id`.", "model": ImportStarted},
    },
    openapi_extra=IMPORT_BODY,
)
async def import_model(
    request: Request,
    response: Response,
    session: SessionDep,
    resources: ResourcesDep,
    settings: SettingsDep,
    once: OnceDep,
) -> Any:
    """Take a LoRA made elsewhere: a form with the file, or JSON that says where on the web it is.

    Its base model is recognised by keys and shapes unless it is named. What is here already is not kept twice.
    """
    if is_json(request.headers.get("content-type", "")):
        response.status_code = 202
        return await _from_web(request, session, resources, once)
    return await _upload(request, session, resources, settings, once)


async def _upload(request: Request, session: AsyncSession, resources: Resources, settings: Settings, once: Once) -> Any:
    limits, most = UploadLimits.of(settings), settings.masuka_max_lora_mb * BYTES_PER_MB
    limits = replace(limits, file_bytes=most, total_bytes=min(limits.total_bytes, most + FORM_BYTES))
    async with scratch(settings) as workdir:
        received = await receive_multipart(request, workdir / "upload", limits, file_setting="MASUKA_MAX_LORA_MB")
        form = parse_fields(received.fields, ImportForm)
        if len(received.files) != 1:
            raise InputError(
                f"Send exactly one file, got {len(received.files)}.", code="one_file_needed", value=len(received.files)
            )
        file = received.files[0]

        async def work() -> ModelImported:
            found = await register(resources.sessions, session, resources.storage, settings, form, file.path)
            return ModelImported(**ModelOut.model_validate(found.model).model_dump(), duplicate=found.duplicate)

        return await once({"form": form.model_dump(), "file": await once.hashes([file.path])}, 201, work)


async def _from_web(request: Request, session: AsyncSession, resources: Resources, once: Once) -> Any:
    form = parse_json(await request.body(), ImportRequest)

    async def work() -> ImportStarted:
        row = await imports.submit(session, resources.settings, form)
        after_commit(session, partial(resources.queue.ring, Queue.CPU))
        return ImportStarted(import_id=row.id, task_id=imports.task_of(row), status=row.status)

    return await once(form.model_dump(), 202, work)


@router.get("/imports/", responses=responses(422))
async def list_imports(
    session: SessionDep,
    limit: Limit = 50,
    cursor: Cursor = None,
    status: Annotated[ImportStatus | None, Query()] = None,
) -> ImportList:
    """Imports from the web, newest first; uploads are models at once."""
    where = [col(ModelImport.status) == status] if status else []
    found = await page(session, ModelImport, limit=limit, cursor=cursor, where=where)
    return ImportList(items=[_shown(row) for row in found.items], next_cursor=found.next_cursor)


@router.get("/imports/{import_id}", responses=responses(404, 422))
async def get_import(session: SessionDep, import_id: IdPath) -> ImportOut:
    return _shown(await imports.get(session, import_id))


def _shown(row: ModelImport) -> ImportOut:
    """The query of a URL may hold a token."""
    source = {"url": shown_url(row.source["url"])} if "url" in row.source else row.source
    return ImportOut.model_validate(row).model_copy(update={"source": source})
