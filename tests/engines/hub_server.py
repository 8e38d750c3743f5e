"""A hub on loopback: the part of huggingface.co's HTTP that downloads use, with faults on request.

It serves `/{owner}/{name}/resolve/{revision}/{path}`: HEAD with size, ETag (the SHA-256, as for large files) and
commit, GET with ranges, and for a gated repository the answers that the public hub gives.
"""

import hashlib
import re
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "3de623fc3c33e44ffbe2bad470d0f45bccf2eb21"
GOOD_TOKEN, TOKEN_WITHOUT_LICENCE = "hf_good", "hf_no_licence"
RESOLVE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")


@dataclass
class HubServer:
    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    """`owner/name/path` -> content."""
    gated: bool = True
    revision: str = "main"
    """The one that has the files."""
    cut_after: deque[int] = field(default_factory=deque)
    """Each GET takes one: the connection breaks after so many bytes."""
    statuses: deque[int] = field(default_factory=deque)
    """Each GET takes one: it answers with this error."""
    damaged: bool = False
    """Contents are served with their first byte changed."""
    ranges_ignored: bool = False
    gets: list[tuple[str, str]] = field(default_factory=list)
    """(path, Range) of each GET."""


class HubHandler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        content = self._content()
        if content is not None:
            self._head(200, content, len(content))

    def do_GET(self) -> None:
        content = self._content()
        if content is None:
            return
        asked = self.headers.get("Range", "")
        self.hub.gets.append((self.path.partition(f"/resolve/{self.hub.revision}/")[2], asked))
        if self.hub.statuses:
            self._refuse(self.hub.statuses.popleft())
            return
        start = 0 if not asked or self.hub.ranges_ignored else int(asked.removeprefix("bytes=").rstrip("-"))
        body = (b"?" + content[1:] if self.hub.damaged else content)[start:]
        self._head(206 if start else 200, content, len(body))
        cut = self.hub.cut_after.popleft() if self.hub.cut_after else None
        self.wfile.write(body[:cut])
        self.wfile.flush()
        self.close_connection = cut is not None

    def _content(self) -> bytes | None:
        """What was asked for, or None after an error was answered."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.hub.gated and token != GOOD_TOKEN:
            known = token == TOKEN_WITHOUT_LICENCE
            self._refuse(403 if known else 401, "GatedRepo" if known or not token else "")
            return None
        match = RESOLVE.fullmatch(self.path)
        there = match is not None and match["revision"] == self.hub.revision
        content = self.hub.files.get(f"{match['repo']}/{match['path']}") if match and there else None
        if content is None:
            self._refuse(404, "EntryNotFound")
        return content

    def _head(self, status: int, content: bytes, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()

    def _refuse(self, status: int, code: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.send_header("X-Repo-Commit", COMMIT)
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def running_hub() -> Iterator[HubServer]:
    hub = HubServer()
    handler = type("Handler", (HubHandler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
