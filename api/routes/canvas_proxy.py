"""Hands requests of the canvas on to ComfyUI, and its answers back, as they stream."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Self

import httpx
from redis.asyncio import Redis
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response, StreamingResponse

from api.domain.canvas import CanvasState
from api.errors import UnavailableError
from api.routes.canvas_door import CANVAS
from api.services import canvas_calls

FRESH_SECONDS = 2.0
"""How long the worker's word on where ComfyUI is counts."""
_TIMEOUT = httpx.Timeout(60.0, connect=5.0)
_HOP_BY_HOP = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade"),
    }
)
_KEPT_FROM_COMFYUI = frozenset({"host", "origin", "referer", "cookie", "authorization", "forwarded"})
"""Besides what begins with `x-forwarded-`: ours, and what it must only hear of itself."""
_KEPT_FROM_BROWSERS = frozenset({"set-cookie", "server", "date"})
_SAFE = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
    "content-security-policy": "frame-ancestors 'self'; base-uri 'self'; object-src 'none'",
}

WORDS = {
    CanvasState.STARTING: (
        "canvas_starting",
        "ComfyUI is starting.",
        "It takes seconds, after an installation minutes.",
    ),
    CanvasState.TRAINING: (
        "canvas_training_running",
        "A training has the GPU, and ComfyUI sleeps until it has ended.",
        "The canvas opens by itself afterwards; or cancel the training.",
    ),
    CanvasState.ABSENT: ("canvas_no_worker", "No GPU worker answers.", "Start one: `masuka up` starts all parts."),
}
"""For each state without a ComfyUI: code, what is wrong, what to do."""


class Upstream:
    """The ComfyUI behind the canvas: the worker is asked where it is, and to start it; one per API process."""

    def __init__(self, redis: Redis, host_name: str) -> None:
        self._redis = redis
        self._host_name = host_name
        self._http = httpx.AsyncClient(timeout=_TIMEOUT, trust_env=False, follow_redirects=False)
        self._asking = asyncio.Lock()
        self._reply = canvas_calls.Reply(CanvasState.ABSENT)
        self._known_at = -FRESH_SECONDS

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def url(self) -> str:
        """Raises CanvasUnavailableError while there is none."""
        async with self._asking:
            if time.monotonic() - self._known_at >= FRESH_SECONDS:
                self._reply = await canvas_calls.ask(self._redis)
                self._known_at = time.monotonic()
            return self._url_in(self._reply)

    async def provide(self, loras: Iterable[str]) -> None:
        """Have these LoRAs where ComfyUI finds them. Raises CanvasUnavailableError."""
        if names := list(loras):
            self._url_in(await canvas_calls.ask(self._redis, names))

    def forget(self) -> None:
        """It was not there."""
        self._known_at = -FRESH_SECONDS

    def _url_in(self, reply: canvas_calls.Reply) -> str:
        if reply.state in WORDS:
            code, detail, hint = WORDS[reply.state]
            raise CanvasUnavailableError(detail, reply.state, code=code, hint=hint)
        if reply.state is CanvasState.FAILED or reply.url is None:
            detail = reply.detail or "ComfyUI cannot be started."
            raise CanvasUnavailableError(
                detail, reply.state, code=reply.code or "comfyui_start_failed", hint=reply.hint
            )
        if reply.host != self._host_name:
            raise CanvasUnavailableError(
                "ComfyUI runs on another machine, where only its own worker reaches it.",
                reply.state,
                code="canvas_elsewhere",
                value=reply.host,
                hint="Open the canvas through an API that runs beside that GPU worker.",
            )
        return reply.url

    async def send(
        self, method: str, raw_path: bytes, headers: Mapping[str, str], content: AsyncIterator[bytes] | bytes | None
    ) -> httpx.Response:
        """An answer whose body has not been read; whoever gets it closes it.

        Raises CanvasUnavailableError when ComfyUI is not there, or does not answer.
        """
        for again in (content is None or isinstance(content, bytes), False):
            url = httpx.URL(await self.url()).copy_with(raw_path=raw_path)
            changed = {"content-length"} if isinstance(content, bytes) else set[str]()
            request = self._http.build_request(method, url, headers=_inwards(headers, url, changed), content=content)
            try:
                return await self._http.send(request, stream=True)
            except httpx.ConnectError:
                self.forget()
                if not again:
                    break
            except httpx.TransportError as exc:
                self.forget()
                raise _gone() from exc
        raise _gone()

    async def page(self) -> httpx.Response:
        """ComfyUI's page, read. Raises CanvasUnavailableError."""
        found = await self.send("GET", b"/", {}, None)
        await found.aread()
        return found

    async def json(self, method: str, route: str, body: Mapping[str, Any] | None = None) -> Any:
        """ComfyUI's answer to a question of our own. Raises CanvasUnavailableError."""
        url = f"{await self.url()}/{route}"
        try:
            response = await self._http.request(method, url, json=body)
            return response.json() if response.content and response.is_success else None
        except httpx.ConnectError as exc:
            self.forget()
            raise _gone() from exc
        except (httpx.TransportError, ValueError) as exc:
            raise _gone() from exc

    async def upload(self, route: str, fields: Mapping[str, str], files: Mapping[str, Any]) -> httpx.Response:
        """Raises CanvasUnavailableError."""
        try:
            return await self._http.post(f"{await self.url()}/{route}", data=dict(fields), files=dict(files))
        except httpx.TransportError as exc:
            self.forget()
            raise _gone() from exc


def _inwards(headers: Mapping[str, str], url: httpx.URL, changed: set[str]) -> dict[str, str]:
    """Host and Origin are changed together: the one was compared with the other before."""
    left = {name.strip().lower() for name in headers.get("connection", "").split(",")} | changed
    left |= _HOP_BY_HOP | _KEPT_FROM_COMFYUI
    kept = {name: value for name, value in headers.items() if name not in left and not name.startswith("x-forwarded-")}
    host = url.netloc.decode()
    origin = {"origin": f"http://{host}"} if "origin" in headers else {}
    return {"accept-encoding": "identity", **kept, **origin, "host": host}


class CanvasUnavailableError(UnavailableError):
    """There is no ComfyUI for the canvas now."""

    default_code = "canvas_unavailable"

    def __init__(self, detail: str, state: CanvasState, **about: Any) -> None:
        super().__init__(detail, **about)
        self.state = state


def _gone() -> CanvasUnavailableError:
    return CanvasUnavailableError(
        "ComfyUI has ended, or does not answer.", CanvasState.STARTING, hint="It is started again; try in a moment."
    )


def raw_path_of(connection: HTTPConnection) -> bytes:
    """What ComfyUI is asked for: as the browser wrote it, because encoded slashes mean something there."""
    scope = connection.scope
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    path = raw.partition(b"?")[0][len(CANVAS) :] or b"/"
    query: bytes = scope["query_string"]
    return path + b"?" + query if query else path


async def forward(upstream: Upstream, request: Request, content: AsyncIterator[bytes] | bytes | None) -> Response:
    """The whole request, and the whole answer as it streams. Raises CanvasUnavailableError."""
    found = await upstream.send(request.method, raw_path_of(request), dict(request.headers), content)
    return StreamingResponse(_body(found), found.status_code, outwards(found.headers))


def outwards(headers: httpx.Headers) -> dict[str, str]:
    kept = {name: value for name, value in headers.items() if name not in _HOP_BY_HOP | _KEPT_FROM_BROWSERS}
    return {**kept, **_SAFE}


async def _body(found: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in found.aiter_raw():
            yield chunk
    finally:
        await found.aclose()
