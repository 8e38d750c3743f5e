"""`POST /api/generate/image`: ask for pictures."""

from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from api.domain.generation import GenerateImageRequest
from api.domain.job import Queue
from api.models import GeneratedAsset
from api.routes.deps import ResourcesDep, SessionDep, SettingsDep, after_commit
from api.routes.once import OnceDep
from api.routes.problems import responses
from api.services import generation, workers

router = APIRouter(prefix="/api/generate", tags=["generate"])


class GenerationStarted(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "asset_id": "2b116f1c-3a0b-4c57-9d5e-0d6f3c8f9f8e",
                "asset_ids": ["2b116f1c-3a0b-4c57-9d5e-0d6f3c8f9f8e"],
                "status": "pending",
                "task_id": "0d6f3c8f-2b11-4c57-9d5e-6f1c9f8e3a0b",
                "seed": 7,
                "warnings": [],
            }
        }
    )

    asset_id: UUID
    asset_ids: list[UUID] = Field(description="One per picture, in the order of their seeds.")
    status: str
    task_id: UUID = Field(description="The first picture's job.")
    seed: int = Field(description="Of the first picture.")
    warnings: list[str] = Field(description="What of the request has no effect, and why.")


@router.post("/image", status_code=202, responses=responses(404, 409, 422, 503), response_model=GenerationStarted)
async def generate_image(
    body: GenerateImageRequest, session: SessionDep, resources: ResourcesDep, settings: SettingsDep, once: OnceDep
) -> Any:
    """Queue one or more pictures; follow them at `/api/progress/stream/{asset_id}`."""

    async def work() -> GenerationStarted:
        installed = await workers.installed_bases(resources.redis, settings)
        files = await workers.model_files(resources.redis, settings)
        assets = await generation.submit(session, resources.storage, settings, installed, body, files)
        after_commit(session, partial(resources.queue.ring, Queue.GPU))
        return started(assets, body.warnings())

    return await once(body.model_dump(mode="json"), 202, work)


def started(assets: Sequence[GeneratedAsset], warnings: list[str]) -> GenerationStarted:
    """The answer to whoever asked for these pictures."""
    first = assets[0]
    return GenerationStarted(
        asset_id=first.id,
        asset_ids=[asset.id for asset in assets],
        status=first.status,
        task_id=generation.task_of(first),
        seed=first.generation_config["seed"],
        warnings=warnings,
    )
