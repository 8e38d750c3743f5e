"""The API in this process: the real application and its real servers, and no worker."""

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import sqlalchemy as sa
import uvicorn
from fastapi import FastAPI
from sqlmodel import SQLModel
from starlette.types import ASGIApp, Receive, Scope, Send

from api.domain.job import Queue
from api.errors import MasukaError
from api.main import create_app
from api.models import Job, Model
from api.resources import Resources
from api.serve import GRACEFUL_SECONDS
from api.services import jobs, workers
from api.services.turns import Turn, next_pending
from api.settings import Settings
from api.tasks.reconcile import remove_leftovers
from tests.intake.pictures import encoded, scene
from tests.trainer.lora_files import Tensors, file_bytes, pair
from tests.waiting import until

NOBODY = "11111111-2222-4333-8444-555555555555"
URL = "http://127.0.0.1:8000"
TO_Q = "transformer.transformer_blocks.0.attn.to_q"
Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Service:
    settings: Settings
    app: FastAPI
    asgi: ASGIApp
    resources: Resources
    client: httpx.AsyncClient

    async def pulse(self, *bases: str, comfyui: str = "asleep", queues: Collection[Queue] = tuple(Queue)) -> None:
        """What workers say of themselves; with it base models are installed."""
        said = json.dumps({"comfyui": comfyui, "comfyui_error": None, "bases": list(bases)})
        for queue in queues:
            await self.resources.redis.set(workers.pulse_key(queue), said)

    async def pulse_captioners(self, *names: str) -> None:
        """What the GPU worker says of itself; with it captioners are installed."""
        said = json.dumps({"comfyui": "asleep", "comfyui_error": None, "captioners": names})
        await self.resources.redis.set(workers.pulse_key(Queue.GPU), said)

    async def dataset(self, name: str = "me", *, pictures: int = 1, **fields: str) -> dict[str, Any]:
        response = await self.upload({f"{n}.png": png(n) for n in range(pictures)}, name=name, **fields)
        assert response.status_code == 201, response.text
        return dict(response.json())

    async def upload(self, files: Files, *, key: str | None = None, **fields: str) -> httpx.Response:
        parts: list[Any] = [
            (name, (None, value)) for name, value in fields.items()
        ]  # httpx's `data` alone is no multipart
        parts += [("files", (name, data)) for name, data in files.items()]
        return await self.client.post("/api/datasets/", files=parts, headers=_key(key))

    async def import_lora(self, data: bytes, *, key: str | None = None, **fields: str) -> httpx.Response:
        form = {"name": "me", "base_model": "flux-tiny", **fields}
        files = {"file": ("a.safetensors", data)}
        return await self.client.post("/api/models/import", data=form, files=files, headers=_key(key))

    async def model(self, *, rank: int = 4, **fields: str) -> dict[str, Any]:
        """An imported LoRA, as it is shown."""
        response = await self.import_lora(tiny_lora(rank), **fields)
        assert response.status_code == 201, response.text
        return dict((await self.client.get(f"/api/models/{response.json()['id']}")).json())

    async def lora_key(self, model_id: str) -> str:
        """Where the storage has the file of a LoRA."""
        async with self.resources.sessions() as session:
            return (await session.get_one(Model, UUID(model_id))).storage_path

    async def training(self, **body: Any) -> dict[str, Any]:
        await self.pulse("flux-dev", "flux-tiny")
        body.setdefault("dataset_id", (await self.dataset())["id"])
        response = await self.client.post("/api/training/flux", json=body)
        assert response.status_code == 201, response.text
        return dict(response.json())

    async def pictures(self, **body: Any) -> dict[str, Any]:
        await self.pulse("flux-dev", "flux-tiny")
        response = await self.client.post("/api/generate/image", json={"prompt": "a photo", **body})
        assert response.status_code == 202, response.text
        return dict(response.json())

    async def claim(self) -> jobs.Lease:
        """Be the worker: take the next job."""
        async with self.resources.sessions.begin() as session:
            best = await next_pending(session, Queue.GPU, Turn())
            assert best is not None
            job = await jobs.claim(session, best.id, "tests")
        assert job is not None
        return jobs.Lease(job.id, "tests")

    async def complete(self, lease: jobs.Lease) -> Job:
        async with self.resources.sessions.begin() as session:
            job = await jobs.complete(session, lease)
        await self.resources.progress.publish(job.id, jobs.snapshot_of(job))
        return job

    async def fail(self, lease: jobs.Lease, error: MasukaError) -> Job:
        async with self.resources.sessions.begin() as session:
            return await jobs.fail(session, lease, error)

    async def traces(self) -> dict[str, int]:
        """How many rows each table has, and how many files are kept or being worked on."""
        found = {"files": len(self.files())}
        async with self.resources.sessions() as session:
            for table in SQLModel.metadata.sorted_tables:
                found[table.name] = await session.scalar(sa.select(sa.func.count()).select_from(table)) or 0
        return found

    async def remove_leftovers(self) -> None:
        """As the cpu worker does every few seconds."""
        await remove_leftovers(self.resources)

    def files(self) -> list[Path]:
        folders = (self.settings.masuka_data_dir / "storage", self.settings.masuka_data_dir / "tmp")
        return [path for folder in folders for path in folder.rglob("*") if path.is_file()]


def _key(key: str | None) -> dict[str, str]:
    return {} if key is None else {"Idempotency-Key": key}


@asynccontextmanager
async def serving(settings: Settings, *, raise_app_exceptions: bool = True) -> AsyncIterator[Service]:
    """The application with its lifespan, asked in this process."""
    app = create_app(settings)
    async with app.router.lifespan_context(app) as state:
        assert state is not None

        async def asgi(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": dict(state)}, receive, send)

        transport = httpx.ASGITransport(asgi, raise_app_exceptions=raise_app_exceptions)
        async with httpx.AsyncClient(transport=transport, base_url=URL) as client:
            yield Service(settings, app, asgi, state["resources"], client)


@asynccontextmanager
async def over_http(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """The application behind a real uvicorn, and a client on a real socket."""
    config = uvicorn.Config(
        create_app(settings), port=0, log_level="critical", timeout_graceful_shutdown=GRACEFUL_SECONDS
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    await until(lambda: server.started or running.done())
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            yield client
    finally:
        server.should_exit = True
        await running


def with_values(settings: Settings, **values: Any) -> Settings:
    """These settings with some others; `model_copy` keeps what was derived from the old ones."""
    given = {name: getattr(settings, name) for name in settings.model_fields_set}
    return Settings(_env_file=None, **(given | values))


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The answer is this problem, in RFC 9457's shape; its body."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json"), (
        response.text
    )
    body: dict[str, Any] = response.json()
    assert (body["status"], body["code"], body["type"]) == (status, code, f"urn:masuka:problem:{code}")
    assert body["title"]
    assert body["detail"]
    assert "Traceback" not in response.text
    assert len(response.text) < 20_000
    return body


def png(seed: int = 0) -> bytes:
    return encoded(scene(seed), "PNG")


def tiny_lora(rank: int = 4, name: str = TO_Q) -> bytes:
    """A LoRA that fits flux-tiny."""
    return file_bytes(tiny_tensors(rank, name))


def tiny_tensors(rank: int = 4, name: str = TO_Q) -> Tensors:
    return pair(name, rank=rank, out=128, inner=128)


def ids(items: Sequence[Mapping[str, Any]]) -> list[str]:
    return [item["id"] for item in items]
