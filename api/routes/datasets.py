"""`/api/datasets`: training images in, read, out."""

from datetime import datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from api.domain.intake import ReportEntry
from api.domain.upload import UploadLimits
from api.models import Dataset
from api.routes.deps import Cursor, IdPath, Limit, ResourcesDep, SessionDep, SettingsDep
from api.routes.form_fields import parse_fields
from api.routes.multipart import receive_multipart
from api.routes.once import OnceDep
from api.routes.problems import responses
from api.scratch import scratch
from api.services import datasets
from api.services.datasets import DatasetForm
from api.services.pages import page

router = APIRouter(prefix="/api/datasets", tags=["datasets"])

EXAMPLE: dict[str, Any] = {
    "id": "6f1c9f8e-3a0b-4c57-9d5e-0d6f3c8f2b11",
    "name": "ohwx",
    "image_count": 20,
    "video_count": 0,
    "is_processed": True,
    "captions_generated": False,
    "dataset_metadata": {"trigger_word": "ohwx", "caption_style": None, "preprocessing_params": None},
    "created_at": "2026-11-22T10:00:00Z",
    "updated_at": "2026-11-22T10:00:02Z",
    "revision": 3,
}
IMAGE_EXAMPLE: dict[str, Any] = {
    "id": "9f86d081-884c-4d65-9a2f-eaa0c55ad015",
    "position": 0,
    "filename": "1.png",
    "width": 1024,
    "height": 1024,
    "size_bytes": 1482113,
    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "caption": "ohwx, a portrait in front of a window",
    "caption_source": "uploaded",
    "caption_provenance": {},
}


class DatasetOut(BaseModel):
    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": EXAMPLE})

    id: UUID
    name: str
    image_count: int
    video_count: int
    is_processed: bool
    captions_generated: bool
    dataset_metadata: dict[str, Any]
    created_at: datetime
    updated_at: datetime
    revision: int = Field(description="Counts the changes of images and captions; as an ETag good for `If-Match`.")


class FileReport(BaseModel):
    """What became of one uploaded file."""

    model_config = ConfigDict(from_attributes=True)

    filename: str
    status: str = Field(description="`taken` or `refused`.")
    code: str | None = Field(None, description="Why it was refused; stable.")
    reason: str = ""
    duplicate_of: str | None = None


class DatasetCreated(DatasetOut):
    model_config = ConfigDict(
        json_schema_extra={"example": {**EXAMPLE, "files": [{"filename": "1.png", "status": "taken", "reason": ""}]}}
    )

    files: list[FileReport] = Field(description="A word on every file of the upload.")


class ImageOut(BaseModel):
    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": IMAGE_EXAMPLE})

    id: UUID
    position: int = Field(description="Orders the images; not without gaps.")
    filename: str
    width: int
    height: int
    size_bytes: int
    sha256: str
    caption: str
    caption_source: str = Field(description="`uploaded`, `manual`, `none`, or the captioner that has written it.")
    caption_provenance: dict[str, Any] = Field(description="Of a caption that a machine has written.")


class DatasetDetail(DatasetOut):
    model_config = ConfigDict(json_schema_extra={"example": {**EXAMPLE, "images": [IMAGE_EXAMPLE]}})

    images: list[ImageOut]


class DatasetList(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": {"items": [EXAMPLE], "next_cursor": None}})

    items: list[DatasetOut]
    next_cursor: str | None


UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["name", "files"],
                    "properties": {
                        "name": {"type": "string", "minLength": 1, "maxLength": 100},
                        "trigger_word": {"type": "string", "maxLength": 100},
                        "caption_style": {"type": "string", "maxLength": 100},
                        "preprocessing_params": {"type": "string", "description": "A JSON object."},
                        "files": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "PNG, JPEG or WebP, with same-stem .txt captions; or one zip of them.",
                        },
                    },
                },
                "example": {"name": "ohwx", "trigger_word": "ohwx", "files": ["1.png", "1.txt"]},
            }
        },
    }
}


@router.post(
    "/",
    status_code=201,
    response_model=DatasetCreated,
    responses=responses(400, 409, 413, 422),
    openapi_extra=UPLOAD_BODY,
)
async def create_dataset(
    request: Request, resources: ResourcesDep, settings: SettingsDep, session: SessionDep, once: OnceDep
) -> Any:
    """Upload images (with captions), or one zip; answers for every file what became of it."""
    limits = UploadLimits.of(settings)
    async with scratch(settings) as workdir:
        received = await receive_multipart(request, workdir / "upload", limits)
        form = parse_fields(received.fields, DatasetForm)

        async def work() -> DatasetCreated:
            created = await datasets.create(
                resources.sessions, session, resources.storage, limits, form, received.files, workdir / "intake"
            )
            return created_answer(created.dataset, created.report)

        hashes = await once.hashes([file.path for file in received.files])
        return await once(
            {"form": form.model_dump(), "names": [file.filename for file in received.files], "files": hashes}, 201, work
        )


def created_answer(dataset: Dataset, report: tuple[ReportEntry, ...]) -> DatasetCreated:
    return DatasetCreated(
        **DatasetOut.model_validate(dataset).model_dump(), files=[FileReport.model_validate(entry) for entry in report]
    )


@router.get("/", responses=responses(422))
async def list_datasets(session: SessionDep, limit: Limit = 50, cursor: Cursor = None) -> DatasetList:
    found = await page(session, Dataset, limit=limit, cursor=cursor, where=[datasets.VISIBLE])
    return DatasetList(items=[DatasetOut.model_validate(row) for row in found.items], next_cursor=found.next_cursor)


@router.get("/{dataset_id}", responses=responses(404, 422))
async def get_dataset(session: SessionDep, dataset_id: IdPath) -> DatasetDetail:
    dataset = await datasets.get(session, dataset_id)
    rows = await datasets.images(session, dataset_id)
    return DatasetDetail(
        **DatasetOut.model_validate(dataset).model_dump(), images=[ImageOut.model_validate(row) for row in rows]
    )


@router.delete("/{dataset_id}", status_code=204, responses=responses(404, 409, 422))
async def delete_dataset(session: SessionDep, dataset_id: IdPath) -> None:
    """Remove the dataset and its files; refused while a training needs them."""
    await datasets.delete(session, dataset_id)
