"""`/api/training/{session_id}/resume`, `/extend`, `/clone`: trainings that begin where another one is."""

from functools import partial
from typing import Any

from fastapi import APIRouter
from pydantic import ConfigDict, Field

from api.domain.job import Queue
from api.routes.deps import IdPath, ResourcesDep, SessionDep, SettingsDep, after_commit
from api.routes.once import OnceDep
from api.routes.problems import responses
from api.routes.training import EXAMPLE, SessionOut
from api.routes.waiting import with_place
from api.services import training_start
from api.services.continuing import CloneRequest, ExtendRequest

router = APIRouter(prefix="/api/training", tags=["training"])


class ResumedOut(SessionOut):
    model_config = ConfigDict(json_schema_extra={"example": {**EXAMPLE, "status": "pending", "resumes_from_step": 500}})

    resumes_from_step: int = Field(description="The newest training checkpoint in storage; 0: it begins anew.")


@router.post("/{session_id}/resume", status_code=201, responses=responses(404, 409, 422), response_model=ResumedOut)
async def resume_session(
    session: SessionDep, resources: ResourcesDep, settings: SettingsDep, once: OnceDep, session_id: IdPath
) -> Any:
    """A failed or cancelled training goes on from its newest checkpoint, as the same session with a new job."""

    async def work() -> ResumedOut:
        row, step = await training_start.resume(resources, session, session_id)
        after_commit(session, partial(resources.queue.ring, Queue.GPU))
        shown = SessionOut.model_validate(row).model_dump()
        return await with_place(session, settings, ResumedOut(**shown, resumes_from_step=step))

    return await once({}, 201, work)


@router.post(
    "/{session_id}/extend", status_code=201, responses=responses(404, 409, 422, 503), response_model=SessionOut
)
async def extend_session(
    body: ExtendRequest,
    session: SessionDep,
    resources: ResourcesDep,
    settings: SettingsDep,
    once: OnceDep,
    session_id: IdPath,
) -> Any:
    """A completed training is trained further, as a new session; the LoRA that it has made stays."""

    async def work() -> SessionOut:
        row = await training_start.extend(resources, session, session_id, body)
        after_commit(session, partial(resources.queue.ring, Queue.GPU))
        return await with_place(session, settings, SessionOut.model_validate(row))

    return await once(body.model_dump(mode="json"), 201, work)


@router.post("/{session_id}/clone", status_code=201, responses=responses(404, 409, 422, 503), response_model=SessionOut)
async def clone_session(
    body: CloneRequest,
    session: SessionDep,
    resources: ResourcesDep,
    settings: SettingsDep,
    once: OnceDep,
    session_id: IdPath,
) -> Any:
    """The same training from its beginning, with changes: the same pictures and captions, whatever became of it."""

    async def work() -> SessionOut:
        row = await training_start.clone(resources, session, session_id, body)
        after_commit(session, partial(resources.queue.ring, Queue.GPU))
        return await with_place(session, settings, SessionOut.model_validate(row))

    return await once(body.model_dump(mode="json"), 201, work)
