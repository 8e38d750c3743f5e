# mypy: ignore-errors
"""Writes down when ComfyUI sends which event, by the clock that all processes of this machine share.

ComfyUI itself tells no times but those of a prompt's begin and end, in a history that MASUKA clears away.
"""

import json
import os
import time
from pathlib import Path

from server import PromptServer

NODE_CLASS_MAPPINGS = {}
SERVER = PromptServer.instance
_send = SERVER.send_sync
_EVENTS = Path(os.environ["MASUKA_BENCH_EVENTS"]).open("a", buffering=1, encoding="utf-8")  # noqa: SIM115 - as long as ComfyUI


def _metered(event, data, sid=None):
    if isinstance(event, str) and isinstance(data, dict) and "prompt_id" in data:
        entry = {"at": time.monotonic(), "event": event, "prompt_id": data["prompt_id"], "node": data.get("node")}
        _EVENTS.write(json.dumps({**entry, "value": data.get("value")}) + "\n")
    _send(event, data, sid)


SERVER.send_sync = _metered
