"""What the canvas may ask of ComfyUI, and which prompts there are its own. Pure.

A job's prompts have other ids, so nothing has to be remembered to tell them apart.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any
from uuid import uuid4

from api.errors import InputError

SOURCE = "canvas"
"""As `source` in the history, of pictures made by hand."""
JOBS_INPUTS = "masuka-"
"""How the pictures begin that jobs have in ComfyUI's folder of inputs."""
_OWN = "canvas-"
_BEHIND_JOBS = 1e12
"""ComfyUI draws first what has the lowest number, and counts a job's prompts up from 0."""

_FOLDERS = r"(assets|scripts|extensions|fonts|cursor|docs|templates)/.+"
_ROOT_FILE = r"[\w-]+(\.[\w-]+)*\.(html|css|js|json|ico|png|svg|webmanifest)"
_USER = r"(settings(/[^/]+)?|userdata/.+)"
_OPEN = {
    "GET": re.compile(
        rf"|{_ROOT_FILE}|{_FOLDERS}|{_USER}|users|userdata|v2/userdata|object_info(/[^/]+)?|queue|history(/[^/]+)?|prompt"
        r"|system_stats|features|embeddings|extensions|models(/[^/]+)?|experiment/models(/[^/]+)?"
        r"|experiment/models/preview/[^/]+/\d+/.+|view|view_metadata/[^/]+|workflow_templates|i18n"
        r"|global_subgraphs(/[^/]+)?|internal/files/(input|output|temp)|internal/logs(/raw)?|masuka/.+"
    ),
    "POST": re.compile(rf"prompt|queue|interrupt|history|free|upload/(image|mask)|{_USER}"),
    "DELETE": re.compile(r"userdata/.+"),
    "PATCH": re.compile(r"internal/logs/subscribe"),
}
"""By method; ComfyUI itself and whatever custom nodes add to it know more."""
_HIDDEN = re.compile(r"(^|/)\.{1,2}(/|$)|//|\\|[\x00-\x1f\x7f]")


class CanvasState(StrEnum):
    """What a GPU worker says when it is asked for its ComfyUI."""

    RUNNING = "running"
    STARTING = "starting"
    TRAINING = "training"
    """A training has the GPU, and ComfyUI sleeps."""
    FAILED = "failed"
    ABSENT = "absent"
    """No worker has answered."""


class CanvasRouteClosedError(InputError):
    """The canvas needs nothing of this from ComfyUI."""

    status = 403
    title = "Forbidden"
    default_code = "canvas_route_closed"


def route_of(method: str, path: str) -> str:
    """The route in ComfyUI that a decoded path below `/comfyui/` means: most are there twice, once below `api/`.

    Raises CanvasRouteClosedError for all that the canvas does not need, such as installing nodes.
    """
    route = path.removeprefix("api/")
    allowed = _OPEN.get("GET" if method == "HEAD" else method)
    if allowed is None or _HIDDEN.search(route) or not allowed.fullmatch(route):
        raise CanvasRouteClosedError(value=f"{method} {path}")
    return route


def new_prompt_id() -> str:
    return f"{_OWN}{uuid4()}"


def is_own(prompt_id: object) -> bool:
    return isinstance(prompt_id, str) and prompt_id.startswith(_OWN)


def turn(now: float, *, front: bool) -> float:
    """A number behind those of all jobs, before or after the canvas's own prompts so far; `now` in seconds."""
    return _BEHIND_JOBS - now if front else _BEHIND_JOBS + now


def own_part_of_queue(body: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of `/queue` without what jobs have there; items are lists whose second entry is the id."""
    return {section: [item for item in items if is_own(item[1])] for section, items in body.items()}


def own_part_of_history(body: Mapping[str, Any]) -> dict[str, Any]:
    return {prompt_id: entry for prompt_id, entry in body.items() if is_own(prompt_id)}


def named_ids(body: Mapping[str, Any]) -> list[str]:
    """Of the ids that a body asks to delete, the canvas's own."""
    wanted = body.get("delete")
    return [prompt_id for prompt_id in wanted if is_own(prompt_id)] if isinstance(wanted, list) else []


# ---- uploads ---------------------------------------------------------------------------------------------------------


class CanvasUploadRefusedError(InputError):
    """Pictures of the canvas go into ComfyUI's folder of input pictures, and replace none that a job uses."""

    default_code = "canvas_upload_refused"


def input_name(sha256: str) -> str:
    """A job's picture, by its content."""
    return f"{JOBS_INPUTS}{sha256}.png"


def check_upload(filename: str, fields: Mapping[str, str]) -> None:
    """Raises CanvasUploadRefusedError for what would be no input picture, or a job's."""
    subfolder = fields.get("subfolder", "")
    if fields.get("type", "input") != "input":
        raise CanvasUploadRefusedError(value=fields["type"])
    if not filename or filename.startswith((JOBS_INPUTS, ".")) or re.search(r"[/\\\x00-\x1f]", filename):
        raise CanvasUploadRefusedError(value=filename)
    if _HIDDEN.search(f"{subfolder}/x") or subfolder.startswith("/"):
        raise CanvasUploadRefusedError(value=subfolder)
