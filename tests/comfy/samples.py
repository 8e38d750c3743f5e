"""Messages recorded from the real ComfyUI 0.3.75, without the graphs and tracebacks."""

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "samples" / "comfyui"


def sample(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text())


def history(name: str) -> tuple[dict[str, Any], str]:
    """A recorded history answer, and the only prompt id in it."""
    body = sample(name)
    return body, next(iter(body))


def frames(name: str) -> list[str]:
    """The text frames of a recorded socket, as they came."""
    return [json.dumps(message) for message in sample(name) if "type" in message]
