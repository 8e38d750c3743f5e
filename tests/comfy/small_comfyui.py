"""Becomes `main.py` of a ComfyUI that starts at once: it draws one pixel, holds memory, and dies when it is told to."""

import base64
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TAKEN_BYTES = 100 * 1024**2
STARTED = "a small ComfyUI has started"
GOT = "got prompt "
DEADLY = "a deadly picture"
"""A prompt that ends the process while it is drawn, like one that is too large."""
DEATH_SECONDS, DRAWING_SECONDS = 0.2, 0.5
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC")
NODES = json.loads((Path(__file__).resolve().parents[2] / "api" / "comfy" / "core_nodes.json").read_text())["nodes"]
held: list[bytes] = []
submitted: dict[str, float] = {}
"""Prompts and when they came."""


def ended(prompt_id: str) -> bool:
    return time.monotonic() - submitted[prompt_id] > DRAWING_SECONDS


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        """`/object_info` makes it take memory."""
        route, _, rest = self.path[1:].partition("/")
        if route == "object_info":
            held.append(b"x" * TAKEN_BYTES)
            self._answer_json(NODES)
        elif route.startswith("view"):
            self._answer(PIXEL)
        elif route == "queue":
            running = [[0, prompt_id, {}, {}, []] for prompt_id in submitted if not ended(prompt_id)]
            self._answer_json({"queue_running": running, "queue_pending": []})
        elif route == "history" and rest in submitted and ended(rest):
            images = [{"filename": "pixel.png", "type": "output"}]
            self._answer_json({rest: {"status": {"status_str": "success"}, "outputs": {"1": {"images": images}}}})
        else:
            self._answer_json({})

    def do_POST(self) -> None:
        """It gives memory back like the real one, unless it was started in a folder named so."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/free" and "keeps" not in os.getcwd():
            held.clear()
        if self.path == "/prompt":
            submitted[body["prompt_id"]] = time.monotonic()
            sys.stdout.write(f"{GOT}{body['prompt_id']}\n")
            if DEADLY in json.dumps(body["prompt"]):
                threading.Timer(DEATH_SECONDS, os.kill, (os.getpid(), signal.SIGKILL)).start()
        self._answer_json({"node_errors": {}})

    def _answer_json(self, body: dict[str, Any]) -> None:
        self._answer(json.dumps(body).encode())

    def _answer(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


if __name__ == "__main__":
    sys.stdout.write(f"{STARTED}\n")
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
