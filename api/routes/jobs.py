"""`/api/jobs`: the queue as it is, cancel and retry."""

from datetime import datetime
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.domain.job import Kind, Queue, Status
from api.models import Job
from api.resources import Resources
from api.routes.deps import Cursor, IdPath, Limit, ResourcesDep, SessionDep, SettingsDep, after_commit
from api.routes.once import OnceDep
from api.routes.problems import responses
from api.routes.waiting import EXAMPLE as WAITING_EXAMPLE
from api.routes.waiting import Waits, with_place, with_places
from api.services import jobs, training_start
from api.services.pages import page

router = APIRouter(prefix="/api/jobs", tags=["jobs"])

EXAMPLE: dict[str, Any] = {
    "id": "0d6f3c8f-2b11-4c57-9d5e-6f1c9f8e3a0b",
    "kind": "image",
    "queue": "gpu",
    "status": "running",
    "priority": 0,
    "attempt": 1,
    "max_attempts": 3,
    "cancel_requested_at": None,
    "progress": {"status": "generating", "progress": 40.0, "step": 8, "total_steps": 20},
    "error_code": None,
    "error_message": None,
    "error_hint": None,
    "log_tail": None,
    "retry_of": None,
    "created_at": "2026-11-22T10:00:00Z",
    "started_at": "2026-11-22T10:00:00Z",
    "finished_at": None,
    **WAITING_EXAMPLE,
}


class JobOut(Waits):
    model_config = ConfigDict(from_attributes=True, json_schema_extra={"example": EXAMPLE})

    id: UUID
    kind: Kind
    queue: Queue
    status: Status
    priority: int
    attempt: int
    max_attempts: int
    cancel_requested_at: datetime | None
    progress: dict[str, Any] = Field(description="The last snapshot; see the progress stream.")
    error_code: str | None
    error_message: str | None
    error_hint: str | None
    log_tail: str | None = Field(description="The end of the engine's own log, when it failed.")
    retry_of: UUID | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    def waiting_job(self) -> UUID | None:
        return self.id if self.status is Status.PENDING else None


class JobList(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": {"items": [EXAMPLE], "next_cursor": None}})

    items: list[JobOut]
    next_cursor: str | None


async def cancel_and_announce(session: AsyncSession, resources: Resources, job_id: UUID) -> Job:
    """Ask for the cancel; once that is committed the worker and the listeners hear of it."""
    job = await jobs.request_cancel(session, job_id)
    after_commit(session, partial(resources.queue.announce_cancel, job_id))
    if job.status_enum is Status.CANCELLED:
        after_commit(session, partial(resources.progress.publish, job_id, jobs.snapshot_of(job)))
    return job


@router.get("/", responses=responses(422))
async def list_jobs(
    session: SessionDep,
    settings: SettingsDep,
    limit: Limit = 50,
    cursor: Cursor = None,
    status: Annotated[Status | None, Query()] = None,
    kind: Annotated[Kind | None, Query()] = None,
) -> JobList:
    where = [col(Job.status) == status.value] if status else []
    where += [col(Job.kind) == kind.value] if kind else []
    found = await page(session, Job, limit=limit, cursor=cursor, where=where)
    items = await with_places(session, settings, [JobOut.model_validate(row) for row in found.items])
    return JobList(items=items, next_cursor=found.next_cursor)


@router.get("/{job_id}", responses=responses(404, 422))
async def get_job(session: SessionDep, settings: SettingsDep, job_id: IdPath) -> JobOut:
    return await with_place(session, settings, JobOut.model_validate(await jobs.get(session, job_id)))


@router.post("/{job_id}/cancel", responses=responses(404, 409, 422), response_model=JobOut)
async def cancel_job(session: SessionDep, resources: ResourcesDep, once: OnceDep, job_id: IdPath) -> Any:
    """A pending job is cancelled at once, a running one is asked to stop; asking again changes nothing."""

    async def work() -> JobOut:
        return JobOut.model_validate(await cancel_and_announce(session, resources, job_id))

    return await once({}, 200, work)


@router.post("/{job_id}/retry", status_code=201, responses=responses(404, 409, 422), response_model=JobOut)
async def retry_job(session: SessionDep, resources: ResourcesDep, once: OnceDep, job_id: IdPath) -> Any:
    """A new job with the same inputs for a failed or cancelled one."""

    async def work() -> JobOut:
        job = await training_start.retry(resources, session, job_id)
        after_commit(session, partial(resources.queue.ring, Queue(job.queue)))
        return await with_place(session, resources.settings, JobOut.model_validate(job))

    return await once({}, 201, work)
