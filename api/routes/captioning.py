"""`/api/datasets/{id}/caption`: have captions written; `/api/captionings`: how it went; `/api/captioners`: by whom."""

from datetime import datetime
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.domain.captioning import DEFAULT_STYLE, STYLES, CaptionerName, ImageStatus, Overwrite
from api.domain.job import Queue
from api.engines.captioners import CAPTIONERS
from api.models import Captioning, CaptioningImage
from api.routes.deps import Cursor, IdPath, Limit, ResourcesDep, SessionDep, SettingsDep, after_commit
from api.routes.once import OnceDep
from api.routes.problems import responses
from api.services import captionings, workers
from api.services.captionings import CaptioningStatus, CaptionRequest
from api.services.pages import page

router = APIRouter(prefix="/api", tags=["captions"])

CAPTIONER_EXAMPLE: dict[str, Any] = {
    "name": "florence-2",
    "description": "Florence-2-large by Microsoft: small and fast, on any machine; one to three plain sentences.",
    "installed": True,
    "styles": {"caption": "<CAPTION>", "detailed_caption": "<DETAILED_CAPTION>"},
    "default_style": "detailed_caption",
    "prompts": False,
    "repo": "florence-community/Florence-2-large",
    "revision": "4271c66b88cdbc05735372ec13b2360108de5317",
    "licence": "MIT",
    "licence_url": "https://huggingface.co/microsoft/Florence-2-large/blob/main/LICENSE",
    "disk_gb": 1.6,
    "vram_gb": 3.0,
    "ram_gb": 5.0,
}
EXAMPLE: dict[str, Any] = {
    "id": "3a0b9d5e-6f1c-4c57-9d5e-0d6f3c8f2b11",
    "dataset_id": "6f1c9f8e-3a0b-4c57-9d5e-0d6f3c8f2b11",
    "captioner": "florence-2",
    "style": "detailed_caption",
    "prompt": "<DETAILED_CAPTION>",
    "trigger_word": "ohwx",
    "overwrite": "generated",
    "revision": "4271c66b88cdbc05735372ec13b2360108de5317",
    "total": 20,
    "captioned": 19,
    "failed": 1,
    "kept": 0,
    "status": "completed",
    "task_id": "0d6f3c8f-2b11-4c57-9d5e-6f1c9f8e3a0b",
    "error_message": None,
    "created_at": "2026-11-22T10:00:00Z",
    "completed_at": "2026-11-22T10:00:30Z",
}
STARTED = {"captioning_id": EXAMPLE["id"], "task_id": EXAMPLE["task_id"], "status": "pending", "total": 20}
IMAGE_EXAMPLE: dict[str, Any] = {
    "image_id": "9d5e6f1c-3a0b-4c57-9d5e-0d6f3c8f9f8e",
    "filename": "1.png",
    "status": "captioned",
    "caption": "ohwx, a woman in a red coat stands in front of a brick wall.",
    "error_code": None,
    "error_message": None,
    "finished_at": "2026-11-22T10:00:12Z",
}


class CaptionerOut(BaseModel):
    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": CAPTIONER_EXAMPLE})

    name: CaptionerName
    description: str
    installed: bool = Field(description="If not: `masuka install NAME` on the machine of the GPU worker.")
    styles: dict[str, str] = Field(description="What each style asks the captioner.")
    default_style: str
    prompts: bool = Field(description="Whether it understands a `prompt`, too.")
    repo: str
    revision: str
    licence: str
    licence_url: str
    disk_gb: float
    vram_gb: float
    ram_gb: float = Field(description="Without a GPU.")


class CaptionerList(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": {"items": [CAPTIONER_EXAMPLE]}})

    items: list[CaptionerOut]


class CaptioningStarted(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": STARTED})

    captioning_id: UUID
    task_id: UUID
    status: str
    total: int = Field(description="Images that get a caption.")


class CaptioningOut(BaseModel):
    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": EXAMPLE})

    id: UUID
    dataset_id: UUID
    captioner: CaptionerName
    style: str | None = Field(description="Null for a prompt of your own.")
    prompt: str
    trigger_word: str | None
    overwrite: Overwrite
    revision: str | None = Field(description="Commit of the captioner's weights; null until it begins.")
    total: int
    captioned: int = 0
    failed: int = Field(0, description="See `/images?status=failed`.")
    kept: int = Field(0, description="Somebody has changed these captions, or removed the images, meanwhile.")
    status: CaptioningStatus
    task_id: UUID | None
    error_message: str | None
    created_at: datetime
    completed_at: datetime | None


class CaptioningList(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": {"items": [EXAMPLE], "next_cursor": None}})

    items: list[CaptioningOut]
    next_cursor: str | None


class CaptioningImageOut(BaseModel):
    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": IMAGE_EXAMPLE})

    image_id: UUID
    filename: str
    status: ImageStatus
    caption: str | None = Field(description="What the captioner said, with the trigger word.")
    error_code: str | None
    error_message: str | None
    finished_at: datetime | None


class CaptioningImageList(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": {"items": [IMAGE_EXAMPLE], "next_cursor": None}})

    items: list[CaptioningImageOut]
    next_cursor: str | None


@router.get("/captioners/")
async def list_captioners(resources: ResourcesDep, settings: SettingsDep) -> CaptionerList:
    """Who can write captions, in which styles, and what each needs."""
    installed = await workers.installed_captioners(resources.redis, settings)
    return CaptionerList(items=[_captioner(name, installed=name in installed) for name in CAPTIONERS])


def _captioner(name: CaptionerName, *, installed: bool) -> CaptionerOut:
    known = CAPTIONERS[name]
    return CaptionerOut(
        **{each: getattr(known, each) for each in CaptionerOut.model_fields if hasattr(known, each)},
        installed=installed,
        styles=STYLES[name],
        default_style=DEFAULT_STYLE[name],
        prompts=name is CaptionerName.JOYCAPTION,
    )


@router.post(
    "/datasets/{dataset_id}/caption",
    status_code=202,
    response_model=CaptioningStarted,
    responses=responses(404, 409, 422, 503),
)
async def caption_dataset(
    body: CaptionRequest,
    session: SessionDep,
    resources: ResourcesDep,
    settings: SettingsDep,
    once: OnceDep,
    dataset_id: IdPath,
) -> Any:
    """Have a captioner write captions: follow `task_id` at `/api/progress/stream/`.

    What people wrote stays, unless `overwrite` is `everything`; what is written meanwhile always does.
    """

    async def work() -> CaptioningStarted:
        installed = await workers.installed_captioners(resources.redis, settings)
        row = await captionings.submit(session, settings, installed, dataset_id, body)
        after_commit(session, partial(resources.queue.ring, Queue.GPU))
        task_id = captionings.task_of(row)
        return CaptioningStarted(captioning_id=row.id, task_id=task_id, status=row.status, total=row.total)

    return await once(body.model_dump(mode="json"), 202, work)


@router.get("/captionings/", responses=responses(422))
async def list_captionings(
    session: SessionDep,
    limit: Limit = 50,
    cursor: Cursor = None,
    dataset_id: Annotated[UUID | None, Query()] = None,
    status: Annotated[CaptioningStatus | None, Query()] = None,
) -> CaptioningList:
    where = [col(Captioning.dataset_id) == dataset_id] if dataset_id else []
    where += [col(Captioning.status) == status] if status else []
    found = await page(session, Captioning, limit=limit, cursor=cursor, where=where)
    return CaptioningList(items=await _shown(session, found.items), next_cursor=found.next_cursor)


@router.get("/captionings/{captioning_id}", responses=responses(404, 422))
async def get_captioning(session: SessionDep, captioning_id: IdPath) -> CaptioningOut:
    (shown,) = await _shown(session, [await captionings.get(session, captioning_id)])
    return shown


@router.get("/captionings/{captioning_id}/images", responses=responses(404, 422))
async def list_captioning_images(
    session: SessionDep,
    captioning_id: IdPath,
    limit: Limit = 50,
    cursor: Cursor = None,
    status: Annotated[ImageStatus | None, Query()] = None,
) -> CaptioningImageList:
    """What became of every image, in the order of the dataset, with the error of each that failed."""
    row = await captionings.get(session, captioning_id)
    where = [col(CaptioningImage.captioning_id) == row.id]
    where += [col(CaptioningImage.status) == status.value] if status else []
    found = await page(session, CaptioningImage, limit=limit, cursor=cursor, where=where)
    items = [CaptioningImageOut.model_validate(each) for each in found.items]
    return CaptioningImageList(items=items, next_cursor=found.next_cursor)


async def _shown(session: AsyncSession, rows: Any) -> list[CaptioningOut]:
    counted = await captionings.counts(session, [row.id for row in rows])
    return [CaptioningOut.model_validate(row).model_copy(update=counted[row.id]) for row in rows]
