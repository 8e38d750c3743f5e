"""Takes the trainer's webhook messages and answers at once, for it waits. Standard library only."""

import http.server
import json
import secrets
import sys
from typing import Any

from api.trainer.journal import Journal

MAX_BODY_BYTES = 16 * 2**20


class Listener(http.server.ThreadingHTTPServer):
    """Takes webhook messages on loopback, at a path nobody else knows: ports are reused, runs must not mix."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, journal: Journal) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.journal = journal
        self.path = f"/{secrets.token_urlsafe(16)}"
        self.url = f"http://127.0.0.1:{self.server_port}{self.path}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A trainer that went away before our answer is no news: its message has been kept."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Listener
    timeout = None  # a trainer that is frozen half-way through a message goes on with it later

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if self.path != self.server.path:
            self._answer(404)
        elif not length.isascii() or not length.isdigit():
            self._answer(411)
        elif int(length) > MAX_BODY_BYTES:
            self._answer(413)
        else:
            self.server.journal.put(decode(self.rfile.read(int(length))))
            self._answer(200)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: Any) -> None:
        """One line per message would double the log."""


def decode(body: bytes) -> Any:
    """The message in `body`; pictures become their number, for they are files of the trainer's output already."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return {"type": "unreadable", "body": body[:2000].decode(errors="replace")}
    if isinstance(message, dict) and isinstance(message.get("images"), list):
        message["images"] = len(message["images"])
    return message
