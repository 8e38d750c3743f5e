"""A part of the open web on loopback: https hosts with certificates of their own authority, and faults on request."""

import hashlib
import re
import ssl
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import trustme

from api.fetch.web import Web

FILES, OTHER, HUB = "files.example", "other.example", "huggingface.co"
PUBLIC = {FILES: ("93.184.216.34",), OTHER: ("151.101.1.69", "2606:4700::1"), HUB: ("3.33.0.1",)}
"""Where name servers say that the hosts are."""


@dataclass(frozen=True)
class Get:
    host: str
    path: str
    range: str
    token: str


@dataclass
class HttpsServer:
    port: int
    authority: trustme.CA
    files: dict[str, bytes] = field(default_factory=dict)
    """By host and path: `files.example/a.safetensors`."""
    redirects: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    """With every redirect."""
    cut_after: deque[int] = field(default_factory=deque)
    """Each GET takes one: the connection breaks after so many bytes of its body."""
    statuses: deque[int] = field(default_factory=deque)
    """Each GET takes one: it answers with this status."""
    ranges: bool = True
    etags: bool = True
    says_length: bool = True
    hold_after: int | None = None
    """The first body stops after so many bytes until `go_on` is set."""
    go_on: threading.Event = field(default_factory=threading.Event)
    gets: list[Get] = field(default_factory=list)

    def client_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context


class _Handler(BaseHTTPRequestHandler):
    server_state: HttpsServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        state, name = self.server_state, f"{self.headers['Host']}{self.path.partition('?')[0]}"
        asked = self.headers.get("Range", "")
        state.gets.append(Get(self.headers["Host"], self.path, asked, self.headers.get("Authorization", "")))
        if state.statuses:
            self._empty(state.statuses.popleft(), {})
        elif name in state.redirects:
            self._empty(302, {"Location": state.redirects[name], **state.headers})
        elif name not in state.files:
            self._empty(404, {})
        else:
            self._send(state.files[name], asked)

    def _send(self, content: bytes, asked: str) -> None:
        state, etag = self.server_state, f'"{hashlib.sha256(content).hexdigest()}"'
        found = re.fullmatch(r"bytes=(\d+)-", asked) if state.ranges else None
        start = int(found[1]) if found and self.headers.get("If-Range", etag) == etag else 0
        if start >= len(content) > 0:
            self._empty(416, {"Content-Range": f"bytes */{len(content)}"})
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if state.says_length:
            self.send_header("Content-Length", str(len(content) - start))
        else:
            self.send_header("Connection", "close")
        if state.etags:
            self.send_header("ETag", etag)
        self.end_headers()
        self._write(content[start:])

    def _write(self, body: bytes) -> None:
        state = self.server_state
        cut = state.cut_after.popleft() if state.cut_after else None
        hold, state.hold_after = state.hold_after, None
        self.close_connection = cut is not None or not state.says_length
        try:
            self.wfile.write(body[: hold if cut is None else cut])
            self.wfile.flush()
            if hold is not None:
                state.go_on.wait(60)
                self.wfile.write(body[hold:])
        except OSError:  # the client has had enough
            self.close_connection = True

    def _empty(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that refuse the certificate, or are killed, are expected."""


@contextmanager
def https_server() -> Iterator[HttpsServer]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*PUBLIC).configure_cert(context)
    with _Server(("127.0.0.1", 0), _Handler) as server:
        state = HttpsServer(server.server_port, authority)
        server.RequestHandlerClass = type("Handler", (_Handler,), {"server_state": state})
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield state
        finally:
            state.go_on.set()
            server.shutdown()
            thread.join()


class Rerouted(httpx.AsyncBaseTransport):
    """Every public address is this server; all else, TLS and its names included, is as it would be there."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._port = port
        self._real = httpx.AsyncHTTPTransport(verify=context, limits=httpx.Limits(max_keepalive_connections=0))
        self.dialled: list[str] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert (request.url.scheme, request.url.port) == ("https", None)
        self.dialled.append(request.url.host)
        request.url = request.url.copy_with(host="127.0.0.1", port=self._port)
        return await self._real.handle_async_request(request)

    async def aclose(self) -> None:
        await self._real.aclose()


@dataclass
class Names:
    """Name servers: what they say of each host, answer after answer, the last one for ever."""

    known: dict[str, list[Sequence[str]]] = field(default_factory=lambda: {host: [at] for host, at in PUBLIC.items()})
    asked: list[str] = field(default_factory=list)

    async def resolve(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        if host not in self.known:
            raise OSError("no such name")
        answers = self.known[host]
        return answers.pop(0) if len(answers) > 1 else answers[0]


@dataclass(frozen=True)
class Reach:
    """A client of that web, and what it did."""

    web: Web
    names: Names
    dialled: list[str]


@asynccontextmanager
async def reaching(port: int, context: ssl.SSLContext) -> AsyncIterator[Reach]:
    transport, names = Rerouted(port, context), Names()
    async with httpx.AsyncClient(transport=transport, timeout=30, trust_env=False) as client:
        yield Reach(Web(client, names.resolve, pause_seconds=0.01), names, transport.dialled)
