"""`/api/generate`: ask for pictures."""

from functools import partial
from typing import Any

from fastapi import APIRouter

from api.domain.generation import GenerateImageRequest
from api.domain.job import Queue
from api.domain.sweep import SweepRequest
from api.routes.deps import ResourcesDep, SessionDep, SettingsDep, after_commit
from api.routes.once import OnceDep
from api.routes.problems import responses
from api.routes.started import GenerationStarted, SweepStarted, started
from api.routes.wait import RESULT, WaitDep
from api.services import generation, sweeps, workers

router = APIRouter(prefix="/api/generate", tags=["generate"])


@router.post(
    "/image",
    status_code=202,
    responses={**RESULT, **responses(404, 409, 422, 503)},
    response_model=GenerationStarted,
)
async def generate_image(
    body: GenerateImageRequest,
    session: SessionDep,
    resources: ResourcesDep,
    settings: SettingsDep,
    once: OnceDep,
    wait: WaitDep,
) -> Any:
    """Queue one or more pictures; follow them at `/api/progress/stream/{asset_id}`, or `wait` for them here.

    With `wait` and `Accept: image/png` the answer is the picture itself.
    """
    wait.require_one_if_bytes(body.num_images)

    async def work() -> GenerationStarted:
        installed = await workers.installed_bases(resources.redis, settings)
        files = await workers.model_files(resources.redis, settings)
        assets = await generation.submit(session, resources.storage, settings, installed, body, files)
        after_commit(session, partial(resources.queue.ring, Queue.GPU))
        return started(assets, body.warnings())

    return await wait.for_result(await once(body.model_dump(mode="json"), 202, work))


@router.post("/sweep", status_code=202, responses=responses(404, 409, 422, 503), response_model=SweepStarted)
async def sweep(
    body: SweepRequest, session: SessionDep, resources: ResourcesDep, settings: SettingsDep, once: OnceDep
) -> Any:
    """Queue every combination of prompts, seeds, LoRAs and scales; follow all at `/api/progress/stream/{batch_id}`."""

    async def work() -> SweepStarted:
        installed = await workers.installed_bases(resources.redis, settings)
        files = await workers.model_files(resources.redis, settings)
        assets = await sweeps.submit(session, resources.storage, settings, installed, body, files)
        after_commit(session, partial(resources.queue.ring, Queue.GPU))
        return SweepStarted(**started(assets, body.warnings()).model_dump())

    return await once(body.model_dump(mode="json"), 202, work)
