"""`/`, `/health` and `/ready`: who we are, whether we live, whether work gets done."""

import asyncio
from collections.abc import Awaitable
from typing import Any, Literal
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from api import __version__
from api.domain.job import Kind, Queue
from api.errors import MasukaError
from api.resources import Resources
from api.routes.deps import ResourcesDep
from api.services import workers
from api.tunnel import state
from api.tunnel.state import Stand

router = APIRouter(tags=["service"])
CHECK_SECONDS = 5.0
Pulse = dict[str, Any]


class Root(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={"example": {"name": "MASUKA", "version": "0.1.0", "docs": "/docs", "ready": "/ready"}}
    )

    name: str
    version: str
    docs: str
    ready: str


class Health(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": {"status": "ok"}})

    status: Literal["ok"]


class Part(BaseModel):
    ok: bool
    detail: str = ""


class GpuJob(BaseModel):
    id: UUID
    kind: Kind


class GpuUse(BaseModel):
    mode: Literal["idle", "alone", "shared"] = Field(description="`alone`: a training has the GPU for itself.")
    jobs: list[GpuJob]


class TunnelStand(BaseModel):
    stand: Stand
    url: str = Field(description="The public address; empty unless it is open.")
    detail: str = Field(description="What is wrong with it and what to do.")


class Readiness(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "ready": True,
                "parts": {"database": {"ok": True, "detail": ""}},
                "base_models": ["flux-dev"],
                "gpu": {"mode": "alone", "jobs": [{"id": "0d6f3c8f-2b11-4c57-9d5e-6f1c9f8e3a0b", "kind": "training"}]},
                "tunnel": {"stand": "open", "url": "https://example.ngrok-free.app", "detail": ""},
            }
        }
    )

    ready: bool
    parts: dict[str, Part]
    base_models: list[str]
    gpu: GpuUse | None = Field(description="Who holds the GPU now; null when no GPU worker says so.")
    tunnel: TunnelStand | None = Field(description="How the tunnel stands; null when none is kept.")


@router.get("/")
async def root() -> Root:
    return Root(name="MASUKA", version=__version__, docs="/docs", ready="/ready")


@router.get("/health")
async def health() -> Health:
    """The process lives; needs no token."""
    return Health(status="ok")


@router.get(
    "/ready",
    response_model=Readiness,
    responses={503: {"model": Readiness, "description": "Some part does not work; the answer says which."}},
)
async def ready(resources: ResourcesDep) -> JSONResponse:
    """Whether a job submitted now would be done: database, Redis, storage, workers and ComfyUI."""
    checks = {
        "database": _database(resources),
        "redis": _redis(resources),
        "storage": resources.storage.check(),
    }
    found = asyncio.gather(*(_checked(check) for check in checks.values()))
    cpu, gpu = await asyncio.gather(*(_pulse(resources, queue) for queue in (Queue.CPU, Queue.GPU)))
    parts = dict(zip(checks, await found, strict=True))
    parts |= {"worker_cpu": _worker(Queue.CPU, cpu), "worker_gpu": _worker(Queue.GPU, gpu), "comfyui": _comfyui(gpu)}
    all_ok = all(part.ok for part in parts.values())
    bases = sorted(workers.bases_of(gpu, resources.settings))
    tunnel = state.read(resources.settings)
    answer = Readiness(
        ready=all_ok,
        parts=parts,
        base_models=bases,
        gpu=(gpu or {}).get("gpu"),
        tunnel=None if tunnel is None else TunnelStand(stand=tunnel.stand, url=tunnel.url, detail=tunnel.detail),
    )
    return JSONResponse(answer.model_dump(mode="json"), 200 if all_ok else 503)


async def _checked(check: Awaitable[None]) -> Part:
    try:
        await asyncio.wait_for(check, CHECK_SECONDS)
    except TimeoutError:
        return Part(ok=False, detail=f"No answer within {CHECK_SECONDS:g} s.")
    except (MasukaError, RedisError, OSError, SQLAlchemyError) as exc:
        return Part(ok=False, detail=str(exc).splitlines()[0])
    return Part(ok=True)


async def _database(resources: Resources) -> None:
    async with resources.sessions() as session:
        await session.execute(text("SELECT 1"))


async def _redis(resources: Resources) -> None:
    await resources.redis.ping()


async def _pulse(resources: Resources, queue: Queue) -> Pulse | None:
    try:
        return await asyncio.wait_for(workers.pulse(resources.redis, queue), CHECK_SECONDS)
    except TimeoutError:
        return None


def _worker(queue: Queue, said: Pulse | None) -> Part:
    if said is None:
        return Part(ok=False, detail=f"No {queue} worker gives a sign of life. Start one: masuka worker {queue}")
    return Part(ok=True)


def _comfyui(said: Pulse | None) -> Part:
    """A ComfyUI that sleeps is ready: it starts when a picture needs it."""
    state = "unknown" if said is None else said["comfyui"]
    if state in ("failed", "unknown"):
        why = (said or {}).get("comfyui_error") or state
        return Part(ok=False, detail=f"ComfyUI: {why} See the worker's log and `masuka doctor`.")
    return Part(ok=True, detail=state)
