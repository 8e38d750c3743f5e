"""`/comfyui/`: ComfyUI's own web canvas behind our door, and the links that open something in it."""

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import RedirectResponse, Response
from starlette.responses import FileResponse, JSONResponse
from starlette.websockets import WebSocket

from api.domain.canvas import CanvasState, route_of
from api.errors import NotFoundError
from api.resources import Resources
from api.routes.canvas_acts import PLACE_SCRIPT, SCRIPT, act_of, limited
from api.routes.canvas_door import CANVAS, ENTRY, asset_url, waiting_page, wants_page
from api.routes.canvas_proxy import CanvasUnavailableError, Upstream, forward
from api.routes.canvas_socket import SLOW_DOWN_SECONDS, relay
from api.routes.deps import IdPath, SessionDep
from api.routes.problems import answer, problem, responses
from api.scratch import scratch
from api.services import canvas_graphs, generation, workers
from api.services.canvas_graphs import CanvasGraph

router = APIRouter(tags=["canvas"])

_SCRIPTS = {
    SCRIPT: Path(__file__).with_name("canvas_open.js"),
    PLACE_SCRIPT: Path(__file__).with_name("canvas_place.js"),
}
METHODS = ["GET", "POST", "DELETE", "PATCH"]
_WITH_BODY = frozenset({"POST", "PATCH"})
_AGAIN_SECONDS = {CanvasState.STARTING: 2, CanvasState.ABSENT: 3}
_AGAIN_OTHERWISE_SECONDS = 10


@router.get(
    "/api/assets/{asset_id}/canvas", status_code=307, response_class=Response, responses=responses(404, 409, 422)
)
async def open_in_canvas(session: SessionDep, asset_id: IdPath) -> Response:
    """Send a browser to the canvas with this asset's graph loaded; there it is asked for the token, if there is one."""
    generation.require_file(await generation.get(session, asset_id))
    return RedirectResponse(asset_url(asset_id), 307)


async def enter(request: Request) -> Response:
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"{ENTRY}{query}", 307)


async def serve(request: Request) -> Response:
    """Everything that the canvas asks over HTTP. Raises MasukaError."""
    upstream: Upstream = request.state.canvas
    try:
        return await _serve(request, request.state.resources, upstream)
    except CanvasUnavailableError as exc:
        if not wants_page(request.scope, request.headers):
            raise
        again = _AGAIN_SECONDS.get(exc.state, _AGAIN_OTHERWISE_SECONDS)
        return waiting_page(exc.detail, exc.hint or "", again)


async def _serve(request: Request, resources: Resources, upstream: Upstream) -> Response:
    path: str = request.path_params["path"]
    if (script := _SCRIPTS.get(f"/{path}")) is not None:
        return FileResponse(script, media_type="text/javascript", headers={"Cache-Control": "no-cache"})
    route = route_of(request.method, path)
    if route.startswith("masuka/"):
        return await _graph(route, resources, upstream)
    act = act_of(request.method, route)
    if act is not None:
        return await act(request, resources, upstream)
    return await forward(upstream, request, limited(request) if request.method in _WITH_BODY else None)


async def connect(browser: WebSocket) -> None:
    """The canvas's websocket; while there is no ComfyUI it is refused slowly, because the canvas asks again at once."""
    try:
        await relay(browser.state.canvas, browser)
    except CanvasUnavailableError as exc:
        await asyncio.sleep(SLOW_DOWN_SECONDS)
        await browser.send_denial_response(answer(problem(exc)))


router.add_route(CANVAS, enter, methods=["GET"], include_in_schema=False)
router.add_route(f"{ENTRY}{{path:path}}", serve, methods=METHODS, include_in_schema=False)
router.add_websocket_route(f"{ENTRY}ws", connect)


# ---- what our own script opens -------------------------------------------------------------------------------------


async def _graph(route: str, resources: Resources, upstream: Upstream) -> Response:
    """`masuka/assets/ID` and `masuka/workflows/NAME`. Raises MasukaError."""
    _, kind, name = [*route.split("/"), "", ""][:3]
    settings, storage = resources.settings, resources.storage
    async with resources.sessions() as session:
        if kind == "assets":
            found = await canvas_graphs.of_asset(session, storage, settings, _uuid(name))
            await _bring(found, resources, upstream)
        elif kind == "workflows":
            installed = await workers.installed_bases(resources.redis, settings)
            found = await canvas_graphs.of_workflow(session, settings, installed, name)
        else:
            raise NotFoundError("There is nothing of this kind to open.", value=route)
    return JSONResponse(_shown(found))


async def _bring(found: CanvasGraph, resources: Resources, upstream: Upstream) -> None:
    """Have the pictures that the graph starts from in ComfyUI's folder, as if they had been uploaded in the canvas."""
    async with scratch(resources.settings) as folder:
        for name, key in found.inputs.items():
            await resources.storage.get_file(key, folder / name)
            with (folder / name).open("rb") as content:
                await upstream.upload("upload/image", {"overwrite": "true"}, {"image": (name, content)})


def _shown(found: CanvasGraph) -> dict[str, Any]:
    return {"name": found.name, "prompt": found.prompt, "workflow": found.workflow}


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as exc:
        raise NotFoundError("There is no asset with this id.", code="asset_not_found", value=text) from exc
