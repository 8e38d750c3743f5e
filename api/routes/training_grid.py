"""`POST /api/training/{id}/grid`: every training checkpoint with the same prompts, as one batch and one picture."""

from functools import partial
from typing import Any

from fastapi import APIRouter
from pydantic import ConfigDict, Field

from api.domain.grid import GridRequest
from api.domain.job import Queue
from api.routes.deps import IdPath, ResourcesDep, SessionDep, SettingsDep, after_commit
from api.routes.once import OnceDep
from api.routes.problems import responses
from api.routes.started import EXAMPLE as STARTED_EXAMPLE
from api.routes.started import SweepStarted, started
from api.services import grids, trainings, workers

router = APIRouter(prefix="/api/training", tags=["training"])

BATCH_ID = "9c1d7a52-5b0e-4f0e-8a53-4a1f6f3c8f9f"


class GridStarted(SweepStarted):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {**STARTED_EXAMPLE, "batch_id": BATCH_ID, "sheet_url": f"/api/batches/{BATCH_ID}/sheet"}
        }
    )

    sheet_url: str = Field(description="All pictures in one, labelled by step and scale, as far as they are drawn.")


@router.post("/{session_id}/grid", status_code=202, responses=responses(404, 409, 422, 503), response_model=GridStarted)
async def draw_grid(
    body: GridRequest,
    session: SessionDep,
    resources: ResourcesDep,
    settings: SettingsDep,
    once: OnceDep,
    session_id: IdPath,
) -> Any:
    """Queue every training checkpoint x prompt x scale; follow all at `/api/progress/stream/{batch_id}`."""

    async def work() -> GridStarted:
        row = await trainings.get(session, session_id)
        installed = await workers.installed_bases(resources.redis, settings)
        files = await workers.model_files(resources.redis, settings)
        assets = await grids.submit(session, resources.storage, settings, installed, row, body, files)
        after_commit(session, partial(resources.queue.ring, Queue.GPU))
        told = started(assets, body.warnings())
        return GridStarted(**told.model_dump(), sheet_url=f"/api/batches/{told.batch_id}/sheet")

    return await once(body.model_dump(mode="json"), 202, work)
