"""`?wait=N` on a route that makes pictures: the answer is the result, if it is there in time."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any
from uuid import UUID

import sqlalchemy as sa
from fastapi import Depends, Query, Request
from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col
from starlette.responses import JSONResponse, Response, StreamingResponse

from api.domain.batch import ENDED, counts_of, status_of
from api.errors import ConflictError, InputError, NotFoundError
from api.models import GeneratedAsset, Job
from api.resources import Resources
from api.routes.assets import EXAMPLE as ASSET_EXAMPLE
from api.routes.assets import AssetOut
from api.routes.deps import ResourcesDep, SessionDep, commit
from api.routes.once import REPLAYED
from api.routes.started import EXAMPLE, GenerationStarted
from api.services import generation

MAX_SECONDS = 60
LOOK_SECONDS = 3.0
"""How late an end is seen of which Redis has said nothing."""
PNG = "image/png"


class GenerationResult(GenerationStarted):
    model_config = ConfigDict(
        json_schema_extra={"example": {**EXAMPLE, "status": "completed", "assets": [ASSET_EXAMPLE]}}
    )

    assets: list[AssetOut]


RESULT: dict[int | str, dict[str, Any]] = {
    200: {
        "model": GenerationResult,
        "content": {PNG: {}},
        "description": "With `wait`: all have ended in time, each as its status says.",
    }
}


class Wait:
    """What a client has said of waiting."""

    def __init__(self, resources: Resources, session: AsyncSession, seconds: float, accept: str) -> None:
        self._resources = resources
        self._session = session
        self._seconds = seconds
        self._bytes = seconds > 0 and prefers_png(accept)

    def require_one_if_bytes(self, count: int) -> None:
        """Raises InputError `one_picture_only`: an answer that is a picture cannot be several."""
        if self._bytes and count > 1:
            raise InputError(
                "Accept: image/png is for one picture.",
                code="one_picture_only",
                value=count,
                hint="Ask with num_images 1, or accept application/json.",
            )

    async def for_result(self, answer: BaseModel | Response) -> Any:
        """The answer, or instead of it the result, for which it waits with nothing in hand.

        Raises ConflictError when the answer should be a picture that was not made.
        """
        first = _started(answer)
        if not self._seconds or first is None:
            return answer
        await commit(self._session)
        if not await ended(self._resources, first.asset_ids, self._seconds):
            return answer
        replayed = {REPLAYED: "true"} if isinstance(answer, Response) else {}
        async with self._resources.sessions() as session:
            assets = await _assets(session, first.asset_ids)
            if not self._bytes:
                return JSONResponse(_result(first, assets).model_dump(mode="json"), headers=replayed)
            if not assets:
                raise NotFoundError(code="asset_not_found", value=str(first.asset_id))
            made = assets[0].storage_path is not None
            job = None if made else await session.get(Job, generation.task_of(assets[0]))
        return await self._picture(assets[0], job, replayed)

    async def _picture(self, asset: GeneratedAsset, job: Job | None, headers: dict[str, str]) -> Response:
        if asset.storage_path is None:
            code, hint = (None, None) if job is None else (job.error_code, job.error_hint)
            detail = f"The picture {asset.status}" + (f": {asset.error_message}" if asset.error_message else ".")
            raise ConflictError(detail, code=code or f"picture_{asset.status}", value=str(asset.id), hint=hint)
        storage = self._resources.storage
        size = await storage.size(asset.storage_path)
        if size is None:
            raise NotFoundError("The file is gone from the storage.", code="file_missing", value=asset.storage_path)
        about = {
            "Content-Length": str(size),
            "Content-Disposition": f'inline; filename="{asset.id}.png"',
            "Content-Location": f"/api/assets/{asset.id}/file",
        }
        return StreamingResponse(storage.open(asset.storage_path), 200, {**about, **headers}, PNG)


async def get_wait(
    request: Request,
    resources: ResourcesDep,
    session: SessionDep,
    wait: Annotated[float, Query(ge=0, le=MAX_SECONDS, description="Seconds; 202 when the pictures take longer.")] = 0,
) -> Wait:
    return Wait(resources, session, wait, request.headers.get("accept", ""))


WaitDep = Annotated[Wait, Depends(get_wait, scope="function")]


def prefers_png(accept: str) -> bool:
    """Whether this `Accept` names PNG pictures, and JSON not above them; a mere `*/*` does not."""
    weights: dict[str, float] = {}
    for part in accept.lower().split(","):
        media, *parameters = (text.strip() for text in part.split(";"))
        weights[media] = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name == "q":
                with suppress(ValueError):
                    weights[media] = float(value)
    png = max(weights.get(PNG, 0.0), weights.get("image/*", 0.0))
    return png > 0 and png >= weights.get("application/json", 0.0)


async def ended(resources: Resources, asset_ids: Sequence[UUID], seconds: float) -> bool:
    """Wait until all of these have ended, deleted ones among them; False when they have not in time."""
    async with resources.sessions() as session:
        job_ids = [generation.task_of(asset) for asset in await _assets(session, asset_ids)]
    with suppress(TimeoutError):
        async with resources.progress.listen(*job_ids) as events, asyncio.timeout(seconds):
            while await _waited_for(resources, asset_ids):
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        while json.loads((await events.get()).data)["status"] not in ENDED:
                            continue
            return True
    return False


async def _waited_for(resources: Resources, asset_ids: Sequence[UUID]) -> bool:
    active = sa.exists().where(col(GeneratedAsset.id).in_(asset_ids), col(GeneratedAsset.status).not_in(ENDED))
    async with resources.sessions() as session:
        return bool(await session.scalar(sa.select(active)))


async def _assets(session: AsyncSession, asset_ids: Sequence[UUID]) -> list[GeneratedAsset]:
    """Those that there are, in this order."""
    shown = col(GeneratedAsset.id).in_(asset_ids), col(GeneratedAsset.deleted_at).is_(None)
    rows = await session.scalars(sa.select(GeneratedAsset).where(*shown))
    found = {row.id: row for row in rows}
    return [found[asset_id] for asset_id in asset_ids if asset_id in found]


def _started(answer: BaseModel | Response) -> GenerationStarted | None:
    """From an answer made now or replayed; None of one that was refused."""
    if isinstance(answer, GenerationStarted):
        return answer
    if isinstance(answer, Response) and answer.status_code == 202:
        return GenerationStarted.model_validate_json(bytes(answer.body))
    return None


def _result(first: GenerationStarted, assets: Sequence[GeneratedAsset]) -> GenerationResult:
    status = status_of(counts_of([asset.status for asset in assets]))
    return GenerationResult(
        **{**first.model_dump(), "status": status}, assets=[AssetOut.model_validate(asset) for asset in assets]
    )
