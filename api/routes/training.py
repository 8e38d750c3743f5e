"""`/api/training`: start, follow and cancel trainings."""

from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import col

from api.domain.job import Queue
from api.domain.upload import BYTES_PER_MB
from api.models import TrainingSession
from api.routes.deps import Cursor, IdPath, Limit, ResourcesDep, SessionDep, SettingsDep, after_commit
from api.routes.jobs import EXAMPLE as JOB_EXAMPLE
from api.routes.jobs import JobOut, cancel_and_announce
from api.routes.once import OnceDep
from api.routes.problems import responses
from api.routes.waiting import EXAMPLE as WAITING_EXAMPLE
from api.routes.waiting import Waits, with_place, with_places
from api.services import checkpoints, jobs, training_start, trainings
from api.services.pages import page
from api.services.trainings import TrainFluxRequest

router = APIRouter(prefix="/api/training", tags=["training"])

SessionStatus = Literal["pending", "training", "completed", "failed", "cancelled"]
EXAMPLE: dict[str, Any] = {
    "id": "1c9f8e6f-3a0b-4c57-9d5e-0d6f3c8f2b11",
    "name": "ohwx",
    "dataset_id": "6f1c9f8e-3a0b-4c57-9d5e-0d6f3c8f2b11",
    "dataset_version_id": "0b822cd1-5d6c-45b0-8f00-a089f86d0818",
    "parent_session_id": None,
    "start_step": 0,
    "model_type": "flux_image",
    "status": "training",
    "config": {"steps": 2000, "rank": 32, "alpha": 16.0, "base_model": "flux-dev", "trigger_word": "ohwx"},
    "progress": 25.0,
    "current_step": 500,
    "total_steps": 2000,
    "current_loss": 0.41,
    "task_id": "0d6f3c8f-2b11-4c57-9d5e-6f1c9f8e3a0b",
    "error_message": None,
    "started_at": "2026-11-22T10:00:00Z",
    "completed_at": None,
    "created_at": "2026-11-22T10:00:00Z",
    "updated_at": "2026-11-22T10:10:00Z",
    **WAITING_EXAMPLE,
}
PREFLIGHT_EXAMPLE: dict[str, Any] = {
    "images": 25,
    "buckets": [{"width": 832, "height": 1280, "images": 25}],
    "repeats": 0,
    "unmeasured": 0,
    "errors": {},
    "warnings": {"blurry": 1},
    "advice": {},
}
CHECKPOINT_EXAMPLE: dict[str, Any] = {"step": 500, "loss": 0.43, "size_mb": 229.4, "created_at": "2026-11-22T10:09:30Z"}


class SessionOut(Waits):
    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": EXAMPLE})

    id: UUID
    name: str
    dataset_id: UUID | None
    dataset_version_id: UUID | None = Field(description="What it is trained on; GET /api/datasets/{id}/versions/{id}.")
    parent_session_id: UUID | None = Field(description="The session that this one was extended or cloned from.")
    start_step: int = Field(description="Where the parent's state was taken up; 0: it began from nothing.")
    model_type: str
    status: SessionStatus
    config: dict[str, Any]
    progress: float = Field(description="0 to 100.")
    current_step: int
    total_steps: int
    current_loss: float | None
    task_id: UUID
    error_message: str | None
    started_at: datetime | None
    completed_at: datetime | None
    created_at: datetime
    updated_at: datetime

    def waiting_job(self) -> UUID | None:
        return self.task_id if self.status == "pending" else None


class CheckpointOut(BaseModel):
    """A training checkpoint in storage: a retry resumes from the newest, on whatever machine."""

    step: int
    loss: float | None = Field(description="Smoothed over the steps before it.")
    size_mb: float
    created_at: datetime


class SessionDetail(SessionOut):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                **EXAMPLE,
                "job": JOB_EXAMPLE,
                "checkpoints": [CHECKPOINT_EXAMPLE],
                "preflight": PREFLIGHT_EXAMPLE,
            }
        }
    )

    job: JobOut
    checkpoints: list[CheckpointOut] = Field(description="Newest first; of a completed session the one to extend.")
    preflight: dict[str, Any] | None = Field(
        description="What the preflight found at the start: buckets, repeats, and how often which warning."
    )


class SessionList(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": {"items": [EXAMPLE], "next_cursor": None}})

    items: list[SessionOut]
    next_cursor: str | None


@router.post("/flux", status_code=201, responses=responses(404, 409, 422, 503), response_model=SessionOut)
async def train_flux(
    body: TrainFluxRequest, session: SessionDep, resources: ResourcesDep, settings: SettingsDep, once: OnceDep
) -> Any:
    """Train a Flux LoRA on a dataset; every field but `dataset_id` has a default.

    Refused with `preflight_failed` when the dataset's preflight has errors; warnings are kept with the session.
    """

    async def work() -> SessionOut:
        row = await training_start.start(resources, session, body)
        after_commit(session, partial(resources.queue.ring, Queue.GPU))
        return await with_place(session, settings, SessionOut.model_validate(row))

    return await once(body.model_dump(mode="json"), 201, work)


@router.get("/", responses=responses(422))
async def list_sessions(
    session: SessionDep,
    settings: SettingsDep,
    limit: Limit = 50,
    cursor: Cursor = None,
    status: Annotated[SessionStatus | None, Query()] = None,
    model_type: Annotated[Literal["flux_image", "hunyuan_video", "wan_video"] | None, Query()] = None,
) -> SessionList:
    where = [col(TrainingSession.status) == status] if status else []
    where += [col(TrainingSession.model_type) == model_type] if model_type else []
    found = await page(session, TrainingSession, limit=limit, cursor=cursor, where=where)
    items = await with_places(session, settings, [SessionOut.model_validate(row) for row in found.items])
    return SessionList(items=items, next_cursor=found.next_cursor)


@router.get("/{session_id}", responses=responses(404, 422))
async def get_session(session: SessionDep, settings: SettingsDep, session_id: IdPath) -> SessionDetail:
    """The session, its stored training checkpoints and its job, which has the error's code and the trainer's words."""
    row = await trainings.get(session, session_id)
    job = await jobs.get(session, trainings.task_of(row))
    stored = [
        CheckpointOut(
            step=each.step,
            loss=each.loss,
            size_mb=round(each.size_bytes / BYTES_PER_MB, 3),
            created_at=each.created_at,
        )
        for each in await checkpoints.stored(session, row.id)
    ]
    told = await with_place(session, settings, JobOut.model_validate(job))
    about = {**SessionOut.model_validate(row).model_dump(), **told.model_dump(include=set(Waits.model_fields))}
    return SessionDetail(**about, job=told, checkpoints=stored, preflight=row.preflight)


@router.post("/{session_id}/cancel", responses=responses(404, 409, 422), response_model=SessionOut)
async def cancel_session(session: SessionDep, resources: ResourcesDep, once: OnceDep, session_id: IdPath) -> Any:
    """A waiting session is cancelled at once, a running one stops within a minute; asking again changes nothing."""

    async def work() -> SessionOut:
        row = await trainings.get(session, session_id)
        await cancel_and_announce(session, resources, trainings.task_of(row))
        await session.refresh(row)
        return SessionOut.model_validate(row)

    return await once({}, 200, work)
