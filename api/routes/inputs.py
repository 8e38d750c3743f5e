"""`POST /api/inputs/`: pictures for workflows to start from."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from api.domain.upload import UploadLimits
from api.errors import InputError
from api.routes.deps import ResourcesDep, SettingsDep
from api.routes.multipart import receive_multipart
from api.routes.once import OnceDep
from api.routes.problems import responses
from api.scratch import scratch
from api.services import inputs

router = APIRouter(prefix="/api/inputs", tags=["workflows"])

INPUT_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "One PNG, JPEG or WebP picture."}
                    },
                },
                "example": {"file": "photo.png"},
            }
        },
    }
}


class InputOut(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {"input_id": "9f86d081-884c-4d65-9a2f-eaa0c55ad015", "width": 1024, "height": 768}
        }
    )

    input_id: UUID = Field(description="For workflow parameters that take a picture; the same picture has the same.")
    width: int
    height: int


@router.post(
    "/",
    status_code=201,
    response_model=InputOut,
    responses=responses(400, 409, 413, 422, 503),
    openapi_extra=INPUT_BODY,
)
async def create_input(request: Request, resources: ResourcesDep, settings: SettingsDep, once: OnceDep) -> Any:
    """Upload a picture or a mask; it is kept as long as it is used, and MASUKA_INPUT_DAYS longer."""
    limits = UploadLimits.of(settings)
    async with scratch(settings) as workdir:
        received = await receive_multipart(request, workdir / "upload", limits)
        if len(received.files) != 1:
            raise InputError(
                f"Send exactly one file, got {len(received.files)}.", code="one_file_needed", value=len(received.files)
            )
        file = received.files[0]

        async def work() -> InputOut:
            row = await inputs.keep(resources.sessions, resources.storage, limits, file.path, workdir)
            return InputOut(input_id=row.id, width=row.width, height=row.height)

        return await once({"file": await once.hashes([file.path])}, 201, work)
