"""What the canvas does that could reach a job's prompts: each act is taken apart, and only its own part carried out."""

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from fastapi import Request
from starlette.responses import JSONResponse, Response

from api.domain import canvas_prompt
from api.domain.canvas import check_upload, is_own, named_ids, own_part_of_history, own_part_of_queue
from api.domain.canvas_prompt import judge, lora_names, prepared
from api.domain.nodes import FILE_INPUTS
from api.domain.upload import UploadLimits
from api.domain.workflow import WorkflowInvalidError
from api.errors import ConflictError, Fault, InputError, TooLargeError
from api.resources import Resources
from api.routes.canvas_proxy import Upstream, forward, outwards
from api.routes.multipart import receive_multipart
from api.routes.problems import MEDIA_TYPE, problem
from api.scratch import scratch
from api.services import canvas, node_catalogue

MAX_BODY_BYTES = 10_000_000
SCRIPT = "/extensions/masuka/open.js"
"""ComfyUI's canvas loads every script that is listed as an extension; this one is ours, and opens what is asked for."""
PLACE_SCRIPT = "/extensions/masuka/place.js"
_PLACE = f'<script type="module" src=".{PLACE_SCRIPT}"></script>'.encode()

Act = Callable[[Request, Resources, Upstream], Awaitable[Response]]


async def read_json(request: Request) -> dict[str, Any]:
    """Raises TooLargeError and InputError. An empty body is an empty object, as in a bare interrupt."""
    data = b"".join([chunk async for chunk in limited(request)])
    try:
        body = json.loads(data or b"{}")
    except (ValueError, RecursionError) as exc:
        raise InputError("The body is not JSON that can be read.", code="body_not_json") from exc
    if not isinstance(body, dict):
        raise InputError("The body must be a JSON object.", code="body_not_json")
    return body


async def prompt(request: Request, resources: Resources, upstream: Upstream) -> Response:
    """Judged like a workflow, marked as the canvas's own, and behind every job's; 409 while it could hurt one."""
    body = await read_json(request)
    graph, faults = body.get("prompt"), list[Fault]()
    try:
        async with resources.sessions() as session:
            await canvas.require_harmless(session)
            faults = judge(graph, await node_catalogue.current(session, resources.settings))
        if faults:
            raise WorkflowInvalidError(faults)
    except InputError as exc:
        return _refused(exc, faults, graph)
    await upstream.provide(lora_names(body["prompt"]))
    ready = prepared(body, time.time())
    return await forward(upstream, request, json.dumps(ready).encode())


def _refused(error: InputError, faults: list[Fault], graph: object) -> Response:
    """A problem that the canvas can read, too: it shows what ComfyUI would have said."""
    status = 409 if isinstance(error, ConflictError) else 400
    found = {**problem(error).model_dump(exclude_none=True), "status": status}
    return JSONResponse({**found, **canvas_prompt.refusal(error, faults, graph)}, status, media_type=MEDIA_TYPE)


async def interrupt(request: Request, _: Resources, upstream: Upstream) -> Response:
    """Bare: whatever of the canvas runs. A job is cancelled at its own place."""
    wanted = (await read_json(request)).get("prompt_id")
    running = [item[1] for item in (await _own_queue(upstream))["queue_running"]]
    for prompt_id in running if wanted is None else [one for one in running if one == wanted]:
        await upstream.json("POST", "interrupt", {"prompt_id": prompt_id})
    return Response()


async def change_queue(request: Request, _: Resources, upstream: Upstream) -> Response:
    body = await read_json(request)
    doomed = named_ids(body)
    if body.get("clear"):
        doomed += [item[1] for item in (await _own_queue(upstream))["queue_pending"]]
    await upstream.json("POST", "queue", {"delete": doomed})
    return Response()


async def change_history(request: Request, _: Resources, upstream: Upstream) -> Response:
    body = await read_json(request)
    doomed = named_ids(body)
    if body.get("clear"):
        doomed += list(own_part_of_history(await upstream.json("GET", "history") or {}))
    await upstream.json("POST", "history", {"delete": doomed})
    return Response()


async def free(request: Request, _: Resources, upstream: Upstream) -> Response:
    """Memory is given back between prompts: a job's next one would have to load its models again."""
    body = await read_json(request)
    queue = await upstream.json("GET", "queue") or {}
    if any(not is_own(item[1]) for items in queue.values() for item in items):
        raise ConflictError(
            "A job uses ComfyUI's models now.", code="canvas_job_running", hint="Free the memory when it has ended."
        )
    await upstream.json("POST", "free", {key: bool(body.get(key)) for key in ("unload_models", "free_memory")})
    return Response()


async def show_queue(_: Request, __: Resources, upstream: Upstream) -> Response:
    return JSONResponse(await _own_queue(upstream))


async def show_history(request: Request, _: Resources, upstream: Upstream) -> Response:
    query = f"?{request.url.query}" if request.url.query else ""
    route = request.url.path.rpartition("/history")[2].strip("/")
    found = await upstream.json("GET", f"history/{route}{query}" if route else f"history{query}")
    return JSONResponse(own_part_of_history(found or {}))


async def show_nodes(request: Request, resources: Resources, upstream: Upstream) -> Response:
    """The LoRA loaders list the whole library: what a prompt names is fetched before it is queued."""
    name = request.url.path.rpartition("/object_info")[2].strip("/")
    found: dict[str, Any] = await upstream.json("GET", f"object_info/{name}" if name else "object_info") or {}
    async with resources.sessions() as session:
        library = await canvas.lora_names(session)
    for (node, input_), folder in FILE_INPUTS.items():
        about = found.get(node, {}).get("input", {}).get("required", {}).get(input_)
        if folder == "loras" and about:
            about[0] = [*library, *(file for file in about[0] if file not in set(library))]
    return JSONResponse(found)


async def show_extensions(_: Request, __: Resources, upstream: Upstream) -> Response:
    return JSONResponse([*(await upstream.json("GET", "extensions") or []), SCRIPT])


async def show_page(_: Request, __: Resources, upstream: Upstream) -> Response:
    """ComfyUI's page, with the script that tells it where it stands."""
    found = await upstream.page()
    before, end, after = found.content.rpartition(b"</body>")
    content = before + _PLACE + end + after if end else found.content + _PLACE
    kept = {name: value for name, value in outwards(found.headers).items() if name not in _OF_THE_FILE}
    return Response(content, found.status_code, kept)


_OF_THE_FILE = frozenset({"content-length", "content-encoding", "etag", "last-modified", "accept-ranges"})


async def upload(request: Request, resources: Resources, upstream: Upstream) -> Response:
    """A picture for the canvas's own prompts, on disk until it is whole; none of a job's can be replaced."""
    async with scratch(resources.settings) as workdir:
        received = await receive_multipart(request, workdir / "upload", UploadLimits.of(resources.settings))
        if len(received.files) != 1:
            raise InputError(
                f"Send exactly one file, got {len(received.files)}.", code="one_file_needed", value=len(received.files)
            )
        (file,) = received.files
        fields = {name: values[0] for name, values in received.fields.items()}
        check_upload(file.filename, fields)
        route = request.url.path.rpartition("/upload/")[2]
        with file.path.open("rb") as content:
            answer = await upstream.upload(f"upload/{route}", fields, {file.field: (file.filename, content)})
        return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))


async def _own_queue(upstream: Upstream) -> dict[str, Any]:
    found = await upstream.json("GET", "queue") or {}
    return {"queue_running": [], "queue_pending": [], **own_part_of_queue(found)}


ACTS: dict[tuple[str, str], Act] = {
    ("POST", "prompt"): prompt,
    ("POST", "interrupt"): interrupt,
    ("POST", "queue"): change_queue,
    ("POST", "history"): change_history,
    ("POST", "free"): free,
    ("POST", "upload/image"): upload,
    ("POST", "upload/mask"): upload,
    ("GET", ""): show_page,
    ("GET", "index.html"): show_page,
    ("GET", "queue"): show_queue,
    ("GET", "history"): show_history,
    ("GET", "object_info"): show_nodes,
    ("GET", "extensions"): show_extensions,
}
"""By method and route; everything else goes through as it is."""
_NAMED = ("history/", "object_info/")
"""Routes that end with the name of one thing."""


def act_of(method: str, route: str) -> Act | None:
    return ACTS.get(
        ("GET" if method == "HEAD" else method, route.partition("/")[0] if route.startswith(_NAMED) else route)
    )


async def limited(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes. Raises TooLargeError."""
    seen = 0
    async for chunk in request.stream():
        seen += len(chunk)
        if seen > MAX_BODY_BYTES:
            raise TooLargeError(f"The body is larger than {MAX_BODY_BYTES:,} bytes.", code="body_too_large")
        yield chunk
