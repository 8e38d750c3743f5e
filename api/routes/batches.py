"""`/api/batches`: pictures that were asked for together."""

from datetime import datetime
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from api.domain.batch import status_of
from api.domain.job import Status
from api.models import Batch
from api.routes.asset_filters import AssetStatus
from api.routes.deps import Cursor, IdPath, Limit, ResourcesDep, SessionDep, after_commit
from api.routes.once import OnceDep
from api.routes.problems import responses
from api.services import batches, contact_sheets, generation, jobs
from api.services.pages import page

router = APIRouter(prefix="/api/batches", tags=["batches"])

ITEM_EXAMPLE: dict[str, Any] = {
    "asset_id": "2b116f1c-3a0b-4c57-9d5e-0d6f3c8f9f8e",
    "task_id": "0d6f3c8f-2b11-4c57-9d5e-6f1c9f8e3a0b",
    "status": "completed",
    "prompt": "a photo of ohwx in the rain",
    "seed": 1,
    "model_id": "6f1c9f8e-3a0b-4c57-9d5e-0d6f3c8f2b11",
    "checkpoint_id": None,
    "step": None,
    "scale": 0.5,
    "error_message": None,
}
EXAMPLE: dict[str, Any] = {
    "id": "9c1d7a52-5b0e-4f0e-8a53-4a1f6f3c8f9f",
    "status": "generating",
    "total": 12,
    "counts": {"pending": 9, "generating": 2, "completed": 1, "failed": 0, "cancelled": 0},
    "created_at": "2026-11-22T10:00:00Z",
}


class BatchOut(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    id: UUID
    status: AssetStatus = Field(description="Of the whole; once all have ended: failed or cancelled if any is.")
    total: int = Field(description="How many pictures were asked for.")
    counts: dict[AssetStatus, int] = Field(description="Pictures by their status; deleted ones are not counted.")
    created_at: datetime


class BatchItem(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": ITEM_EXAMPLE})

    asset_id: UUID
    task_id: UUID
    status: AssetStatus
    prompt: str
    seed: int
    model_id: UUID | None = Field(description="The first LoRA of its stack.")
    checkpoint_id: UUID | None = Field(description="The same, where it is of a training checkpoint.")
    step: int | None = Field(description="Of that training checkpoint.")
    scale: float | None = Field(description="Of that LoRA.")
    error_message: str | None


class BatchDetail(BatchOut):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {**EXAMPLE, "request": {"prompts": ["a photo of ohwx in the rain"]}, "items": [ITEM_EXAMPLE]}
        }
    )

    request: dict[str, Any] = Field(description="As it was sent.")
    items: list[BatchItem] = Field(description="In the order in which they are drawn.")


class BatchList(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": {"items": [EXAMPLE], "next_cursor": None}})

    items: list[BatchOut]
    next_cursor: str | None


def _about(batch: Batch, counts: dict[str, int]) -> dict[str, Any]:
    return {**batch.model_dump(exclude={"request"}), "status": status_of(counts), "counts": counts}


async def _detail(session: AsyncSession, batch_id: UUID) -> BatchDetail:
    batch = await batches.get(session, batch_id)
    counts = (await batches.counts(session, [batch_id]))[batch_id]
    items = []
    for asset in await batches.assets(session, batch_id):
        config = asset.generation_config
        first = config["loras"][0] if config["loras"] else {}
        items.append(
            BatchItem(
                **asset.model_dump(include={"status", "prompt", "model_id", "error_message"}),
                asset_id=asset.id,
                task_id=generation.task_of(asset),
                seed=config["seed"],
                **{name: first.get(name) for name in ("checkpoint_id", "step", "scale")},
            )
        )
    return BatchDetail(**_about(batch, counts), request=batch.request, items=items)


@router.get("/", responses=responses(422))
async def list_batches(session: SessionDep, limit: Limit = 50, cursor: Cursor = None) -> BatchList:
    """Newest first."""
    found = await page(session, Batch, limit=limit, cursor=cursor)
    counts = await batches.counts(session, [batch.id for batch in found.items])
    items = [BatchOut(**_about(batch, counts[batch.id])) for batch in found.items]
    return BatchList(items=items, next_cursor=found.next_cursor)


@router.get("/{batch_id}", responses=responses(404, 422))
async def get_batch(session: SessionDep, batch_id: IdPath) -> BatchDetail:
    """How far it is, with every picture; follow it at `/api/progress/stream/{batch_id}`."""
    return await _detail(session, batch_id)


@router.get(
    "/{batch_id}/sheet",
    responses={**responses(404, 409, 422, 503), 200: {"content": {"image/jpeg": {}}}},
    response_class=Response,
)
async def get_contact_sheet(
    resources: ResourcesDep,
    batch_id: IdPath,
    size: Annotated[int, Query(ge=64, le=512, description="Longest side of a picture on it, in pixels.")] = 256,
) -> Response:
    """All pictures in one, by prompt, seed and LoRA; what is not drawn yet is named by its status."""
    async with resources.sessions() as session:
        assets, layout = await contact_sheets.contents(session, batch_id)
    sheet = await contact_sheets.draw(resources.storage, resources.settings, assets, layout, size)
    name = f'inline; filename="{batch_id}.jpg"'
    return Response(sheet, media_type="image/jpeg", headers={"Content-Disposition": name, "Cache-Control": "no-cache"})


@router.post("/{batch_id}/cancel", responses=responses(404, 409, 422), response_model=BatchDetail)
async def cancel_batch(session: SessionDep, resources: ResourcesDep, once: OnceDep, batch_id: IdPath) -> Any:
    """What waits is cancelled at once, what runs is asked to stop, what is done stays; asking again changes nothing."""

    async def work() -> BatchDetail:
        changed = await batches.cancel(session, batch_id)
        ended = [(job.id, jobs.snapshot_of(job)) for job in changed if job.status_enum is Status.CANCELLED]
        after_commit(session, partial(resources.progress.publish_all, ended))
        for job in changed:
            if job.status_enum is Status.RUNNING:
                after_commit(session, partial(resources.queue.announce_cancel, job.id))
        return await _detail(session, batch_id)

    return await once({}, 200, work)
