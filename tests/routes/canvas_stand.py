"""The service on a real socket, a small ComfyUI that remembers what it is told, and a worker that says where it is."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from api.domain.canvas import CanvasState
from api.resources import Resources
from api.services import canvas_calls
from api.services.canvas_calls import Call, Reply
from tests.waiting import until

JOB = "a-job-of-ours"
OWN = "canvas-1"
LORA_LOADER = {"input": {"required": {"lora_name": [["mine.safetensors"], {}]}}}
STATIC = b"0123456789" * 1000


@dataclass
class SmallComfyUI:
    """What it is asked, and a queue with a prompt of a job and one of the canvas's own."""

    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)
    """Method, path with query, headers, body."""
    running: list[str] = field(default_factory=lambda: [JOB, OWN])
    origins: list[str | None] = field(default_factory=list)
    """Of websockets."""

    def bodies(self, method: str, path: str) -> list[Any]:
        return [json.loads(body) for m, p, _, body in self.seen if (m, p) == (method, path)]

    def app(self) -> Starlette:
        return Starlette(
            routes=[WebSocketRoute("/ws", self._socket), Route("/{path:path}", self._http, methods=METHODS)]
        )

    async def _http(self, request: Request) -> Response:
        path = request.scope["raw_path"].decode() + (f"?{request.url.query}" if request.url.query else "")
        self.seen.append((request.method, path, dict(request.headers), await request.body()))
        if path == "/interrupt" and (wanted := (await request.json()).get("prompt_id")) in self.running:
            self.running.remove(wanted)
        queue = {"queue_running": [[0, one, {}, {}, []] for one in self.running], "queue_pending": []}
        history: dict[str, Any] = {one: {"outputs": {}} for one in self.running}
        answers = {"/queue": queue, "/history": history, "/extensions": ["/extensions/core.js"]}
        if request.method == "GET" and path in answers:
            return JSONResponse(answers[path])
        if path.endswith("/object_info"):
            return JSONResponse({"LoraLoaderModelOnly": LORA_LOADER})
        if path == "/":
            return HTMLResponse("<html><body>canvas</body></html>", headers={"ETag": '"1"'})
        if path == "/assets/a.js":
            return _static(request)
        return JSONResponse({"prompt_id": OWN, "node_errors": {}}, headers={"Set-Cookie": "theirs=1"})

    async def _socket(self, socket: WebSocket) -> None:
        self.origins.append(socket.headers.get("origin"))
        await socket.accept()
        await socket.send_json({"type": "status", "data": {"sid": socket.query_params.get("clientId")}})
        await socket.send_bytes(b"\0\0\0\1picture")
        async for text in socket.iter_text():
            await socket.send_text(f"heard {text}")


METHODS = ["GET", "POST", "DELETE", "PATCH"]


def _static(request: Request) -> Response:
    """A file with an ETag and ranges, sent in pieces."""
    about = {"ETag": '"1"', "Accept-Ranges": "bytes", "Content-Type": "text/javascript"}
    if request.headers.get("if-none-match") == '"1"':
        return Response(status_code=304, headers=about)
    if request.headers.get("range") == "bytes=5-9":
        return Response(STATIC[5:10], 206, {**about, "Content-Range": f"bytes 5-9/{len(STATIC)}"})

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(STATIC), 1000):
            yield STATIC[start : start + 1000]

    return StreamingResponse(pieces(), headers=about)


@asynccontextmanager
async def on_a_port(app: Any) -> AsyncIterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", timeout_graceful_shutdown=1))
    running = asyncio.create_task(server.serve())
    await until(lambda: server.started or running.done())
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await running


@dataclass
class Worker:
    """Answers every call as the test says."""

    reply: Callable[[], Reply]
    calls: list[Call] = field(default_factory=list)

    async def work(self, resources: Resources) -> None:
        while True:
            call = await canvas_calls.take(resources.redis)
            if call is not None:
                self.calls.append(call)
                await canvas_calls.answer(resources.redis, call, self.reply())


@dataclass
class Stand:
    comfyui: SmallComfyUI
    comfyui_url: str
    worker: Worker
    url: str
    client: httpx.AsyncClient

    def says(self, state: CanvasState, **about: Any) -> None:
        self.worker.reply = lambda: Reply(state, **about)


@asynccontextmanager
async def canvas_stand(app: Any, resources: Resources) -> AsyncIterator[Stand]:
    comfyui = SmallComfyUI()
    async with on_a_port(comfyui.app()) as comfyui_url, on_a_port(app) as url:
        worker = Worker(lambda: Reply(CanvasState.RUNNING, comfyui_url))
        working = asyncio.create_task(worker.work(resources))
        try:
            async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
                yield Stand(comfyui, comfyui_url, worker, url, client)
        finally:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
