"""Frames of ComfyUI's websocket, parsed into values.

Source of the formats: ComfyUI 0.3.75, `server.py` (`send`, `send_image_with_metadata`) and `execution.py`. A frame this
module does not know is `Ignored`: the socket is a hint, so nothing it says may stop a job.
"""

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_PREVIEW_IMAGE = 1
_PREVIEW_IMAGE_WITH_METADATA = 4
_IMAGE_TYPES = {1: "image/jpeg", 2: "image/png"}


@dataclass(frozen=True, slots=True)
class Status:
    """Sent to every socket at connect and whenever the queue changes."""

    queue_remaining: int
    client_id: str | None
    """Named only in the first frame of a connection; from then on our events come here."""


@dataclass(frozen=True, slots=True)
class Started:
    prompt_id: str


@dataclass(frozen=True, slots=True)
class Cached:
    """Nodes that need not run again; all of them means that no file will be written."""

    prompt_id: str
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Executing:
    """A node has begun; `node` None is the very last frame of a prompt, sent when its history can be read."""

    prompt_id: str
    node: str | None


@dataclass(frozen=True, slots=True)
class Progress:
    """Steps done within one node."""

    prompt_id: str
    node: str
    value: int
    maximum: int


@dataclass(frozen=True, slots=True)
class Executed:
    """An output node is done."""

    prompt_id: str
    node: str


@dataclass(frozen=True, slots=True)
class Success:
    """Everything ran; the history may lag behind this frame."""

    prompt_id: str


@dataclass(frozen=True, slots=True)
class Failed:
    prompt_id: str
    node: str
    node_type: str
    exception_type: str
    message: str


@dataclass(frozen=True, slots=True)
class Interrupted:
    prompt_id: str
    node: str


@dataclass(frozen=True, slots=True)
class Preview:
    """A half-finished picture; whose it is, is known only if the socket asked for `supports_preview_metadata`."""

    prompt_id: str | None
    node: str | None
    image_type: str
    image: bytes


@dataclass(frozen=True, slots=True)
class Ignored:
    """A frame without meaning to us, or a malformed one."""

    kind: str


Step = Cached | Executing | Progress
"""How far a prompt is."""
Frame = Status | Started | Cached | Executing | Progress | Executed | Success | Failed | Interrupted | Preview | Ignored


def parse(frame: str | bytes) -> Frame:
    """Any frame of the socket; never raises."""
    try:
        return _parse_binary(frame) if isinstance(frame, bytes) else _parse_text(frame)
    except (ValueError, LookupError, TypeError, AttributeError, struct.error):
        return Ignored("malformed")


def _parse_text(text: str) -> Frame:
    message = json.loads(text)
    kind = str(message["type"])
    make = _TEXT_FRAMES.get(kind)
    return make(message["data"]) if make else Ignored(kind)


def _status(data: dict[str, Any]) -> Frame:
    return Status(int(data["status"]["exec_info"]["queue_remaining"]), data.get("sid"))


def _executing(data: dict[str, Any]) -> Frame:
    # After a reconnect under a known client id this comes without a prompt id: nobody's.
    return Executing(data["prompt_id"], data["node"]) if "prompt_id" in data else Ignored("executing")


def _failed(data: dict[str, Any]) -> Frame:
    return Failed(
        data["prompt_id"], data["node_id"], data["node_type"], data["exception_type"], data["exception_message"]
    )


_TEXT_FRAMES: dict[str, Callable[[dict[str, Any]], Frame]] = {
    "status": _status,
    "execution_start": lambda data: Started(data["prompt_id"]),
    "execution_cached": lambda data: Cached(data["prompt_id"], tuple(data["nodes"])),
    "executing": _executing,
    "progress": lambda data: Progress(data["prompt_id"], data["node"], int(data["value"]), int(data["max"])),
    "executed": lambda data: Executed(data["prompt_id"], data["node"]),
    "execution_success": lambda data: Success(data["prompt_id"]),
    "execution_error": _failed,
    "execution_interrupted": lambda data: Interrupted(data["prompt_id"], data["node_id"]),
}


def _parse_binary(frame: bytes) -> Frame:
    event, number = struct.unpack_from(">II", frame)
    rest = frame[8:]
    if event == _PREVIEW_IMAGE:
        return Preview(None, None, _IMAGE_TYPES[number], rest)
    if event == _PREVIEW_IMAGE_WITH_METADATA:
        about = json.loads(rest[:number])
        return Preview(about["prompt_id"], about["node_id"], about["image_type"], rest[number:])
    return Ignored(f"binary {event}")
