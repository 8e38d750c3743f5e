"""`/api/progress/stream/{id}`: server-sent events of a session, an asset, a batch, an import, a captioning or a job."""

import asyncio
import json
from collections.abc import AsyncGenerator
from functools import lru_cache, partial
from typing import Annotated, Any
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Header, Query
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col
from sse_starlette import EventSourceResponse, ServerSentEvent

from api.domain.job import TERMINAL, Status
from api.errors import NotFoundError
from api.models import Batch, Captioning, GeneratedAsset, Job, ModelImport, TrainingSession
from api.progress import Event
from api.resources import Resources
from api.routes import batch_progress
from api.routes.deps import IdPath, ResourcesDep
from api.routes.preview_events import with_previews
from api.routes.problems import responses
from api.services import jobs
from api.services.awaited import WAITING
from api.services.standing import place_of

router = APIRouter(prefix="/api/progress", tags=["progress"])

HEARTBEAT_SECONDS = 15
LOOK_SECONDS = 3.0
"""With no event for this long the row is looked at: for an end which Redis lost, and for the place in the queue."""
RETRY_MILLISECONDS = 2000
SHARED_EVENTS = 256
"""Events that are kept as they are sent, for as many clients as listen."""
ENDED = frozenset(status.value for status in TERMINAL)
SEEN_IN_ROWS = ENDED | {Status.PENDING.value}
"""What is told from the row; of a running job the events know more."""

EXAMPLE = """id: 1795333830717-0
data: {"status": "training", "progress": 25.0, "stage": "training", "step": 500, "total_steps": 2000, "loss": 0.41}
"""


_ANY_ID = sa.bindparam("any_id", type_=sa.Uuid())
_JOB_OF: sa.CompoundSelect[Any] = sa.union_all(
    *(
        sa.select(col(table.task_id)).where(col(table.id) == _ANY_ID, col(table.task_id).is_not(None))
        for table in (TrainingSession, ModelImport, Captioning)
    ),
    sa.select(col(GeneratedAsset.task_id)).where(
        col(GeneratedAsset.id) == _ANY_ID,
        col(GeneratedAsset.task_id).is_not(None),
        col(GeneratedAsset.deleted_at).is_(None),
    ),
    sa.select(col(Job.id)).where(col(Job.id) == _ANY_ID),
)
"""Made once, and asked once: many clients may open a stream at the same time."""


async def job_of(session: AsyncSession, any_id: UUID) -> UUID | None:
    """The job of a session, of an asset, of an import, of a captioning, or itself; None for a batch.

    Raises NotFoundError.
    """
    found = (await session.scalars(_JOB_OF, {"any_id": any_id})).first()
    if found is None and await session.get(Batch, any_id) is None:
        raise NotFoundError(
            "There is no session, asset, batch, import, captioning or job with this id.",
            code="stream_not_found",
            value=str(any_id),
        )
    return found


@router.get(
    "/stream/{any_id}",
    response_class=EventSourceResponse,
    responses={
        **responses(404, 422),
        200: {"description": "Snapshots until the job ends.", "content": {"text/event-stream": {"example": EXAMPLE}}},
        204: {"description": "The job has ended and there is nothing new: EventSource then stops."},
    },
)
async def stream_progress(
    resources: ResourcesDep,
    any_id: IdPath,
    last_event_id: Annotated[str | None, Header()] = None,
    previews: Annotated[bool, Query(description="Half-finished pictures, too, as events named `preview`.")] = False,
) -> Response:
    """Unnamed events, each a whole snapshot: `{status, progress, message, stage, step, total_steps, loss, ...}`.

    The first one is the present state; after `Last-Event-ID` come those that were missed. The stream ends with the job.
    A batch has `counts` by status, too, and `assets`: all of its pictures at first, then those that have changed.
    An event `preview` is `{asset_id, image}`, the image a `data:` URL of a small JPEG; at most two come in a second.
    """
    async with resources.sessions() as session:
        job_id = await job_of(session, any_id)
        assets = await _assets(session, any_id if job_id is None else job_id) if previews else {}
    if job_id is None:
        if last_event_id == batch_progress.end_id(any_id) and await batch_progress.has_ended(resources, any_id):
            return Response(status_code=204)
        events: AsyncGenerator[bytes | ServerSentEvent, None] = batch_progress.follow(resources, any_id)
    elif last_event_id == _end_id(job_id):
        return Response(status_code=204)
    else:
        events = follow(resources, job_id, last_event_id)
    if assets:
        events = with_previews(events, resources.previews, assets)
    return EventSourceResponse(
        events,
        ping=HEARTBEAT_SECONDS,
        headers={"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"},
    )


async def _assets(session: AsyncSession, of: UUID) -> dict[UUID, UUID]:
    """By their jobs: the pictures of a batch, or the one of a job, that are not done."""
    query = sa.select(col(GeneratedAsset.task_id), col(GeneratedAsset.id)).where(
        sa.or_(col(GeneratedAsset.batch_id) == of, col(GeneratedAsset.task_id) == of),
        col(GeneratedAsset.status).in_(WAITING),
    )
    return {task_id: asset_id for task_id, asset_id in await session.execute(query) if task_id is not None}


async def follow(resources: Resources, job_id: UUID, last_event_id: str | None) -> AsyncGenerator[bytes, None]:
    """What a client is sent until the job ends. Listens first, then looks at what was before: nothing falls between."""
    async with resources.progress.listen(job_id) as queue:
        missed = None if last_event_id is None else await resources.progress.since(job_id, last_event_id)
        last, ended = "0-0" if missed is None or last_event_id is None else last_event_id, False
        told = b""
        for event in [await _present(resources, job_id)] if missed is None else missed:
            yield _message(job_id, event)
            last, told, ended = event.id, event.data, _ended(event)
        while not ended:
            try:
                event = await asyncio.wait_for(queue.get(), LOOK_SECONDS)
            except TimeoutError:
                event = await _present(resources, job_id)
                if event.data == told or _status(event) not in SEEN_IN_ROWS:
                    continue
            else:
                if _order(event.id) <= _order(last):
                    continue
            yield _message(job_id, event)
            last, told, ended = event.id, event.data, _ended(event)


async def _present(resources: Resources, job_id: UUID) -> Event:
    """The present state from the database, under the id of the newest event: what comes after it is news.

    To say where a job stands takes a look at all that wait: those who listen to one job share it.
    """
    return await resources.together.look(("present", job_id), partial(_look, resources, job_id))


async def _look(resources: Resources, job_id: UUID) -> Event:
    last = await resources.progress.last_id(job_id)
    async with resources.sessions() as session:
        job = await jobs.get(session, job_id)
        snapshot = jobs.snapshot_of(job, await place_of(session, resources.settings, job))
    return Event(last, json.dumps(snapshot.to_dict()).encode())


@lru_cache(SHARED_EVENTS)
def _message(job_id: UUID, event: Event) -> bytes:
    event_id = _end_id(job_id) if _ended(event) else event.id
    return ServerSentEvent(event.data.decode(), id=event_id, retry=RETRY_MILLISECONDS).encode()


def _end_id(job_id: UUID) -> str:
    """Id of a job's last event: whoever has it knows all, whether Redis does or has lost it."""
    return f"end-{job_id}"


def _ended(event: Event) -> bool:
    return _status(event) in ENDED


@lru_cache(SHARED_EVENTS)
def _status(event: Event) -> str:
    return str(json.loads(event.data)["status"])


def _order(event_id: str) -> tuple[int, int]:
    milliseconds, _, number = event_id.partition("-")
    return int(milliseconds), int(number)
