"""The client that needs no package, against a server that breaks off, redirects, and sends problems."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from api.colab import client
from api.colab.client import Api, save, with_query
from api.colab.errors import ServiceProblem, ServiceSilent
from api.colab.form import Form

TOKEN = "the-token-of-the-owner"
SNAPSHOTS = [json.dumps({"status": status}) for status in ("pending", "training", "completed")]


class Handler(BaseHTTPRequestHandler):
    """What it was asked is in `asked` of its server."""

    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self._note()
        if self.path == "/file":
            self._answer(307, b"", Location=f"http://localhost:{self.headers['Host'].rpartition(':')[2]}/bucket")
        elif self.path == "/problem":
            problem = {"detail": "No.", "code": "refused", "value": 7, "hint": "Ask nicely."}
            self._answer(422, json.dumps(problem).encode())
        elif self.path == "/broken":
            self._answer(502, b"<html>")
        elif self.path.startswith("/api/progress/stream/"):
            self._stream(int(self.headers.get("Last-Event-ID") or 0))
        else:
            self._answer(200, b'{"who": "bucket"}')

    def do_POST(self) -> None:
        self._note()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        told = {
            "type": self.headers["Content-Type"],
            "key": self.headers["Idempotency-Key"],
            "body": body.decode("latin-1"),
        }
        self._answer(200, json.dumps(told).encode())

    def _stream(self, after: int) -> None:
        """One event, and it breaks off; the last one is missed, as the job had ended by then."""
        if after == 2:
            self._answer(204, b"")
            return
        event = f": ping\r\nid: {after + 1}\r\ndata: {SNAPSHOTS[after]}\r\n\r\n".encode()
        self._answer(200, event, length=len(event) + 10)

    def _note(self) -> None:
        self.asked.append((self.path, self.headers["Authorization"]))

    def _answer(self, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length or len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def asked() -> list[tuple[str, str | None]]:
    return []


@pytest.fixture
def api(asked: list[tuple[str, str | None]]) -> Iterator[Api]:
    handler = type("Asked", (Handler,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield Api(f"http://127.0.0.1:{server.server_port}", TOKEN)
        server.shutdown()
        serving.join()


def test_the_token_goes_to_the_service_and_not_where_it_sends_us(api: Api, asked: list[tuple[str, str | None]]) -> None:
    assert json.loads(api.read("/file")) == {"who": "bucket"}
    assert asked == [("/file", f"Bearer {TOKEN}"), ("/bucket", None)]


def test_problems_are_told_with_their_code_and_hint(api: Api) -> None:
    with pytest.raises(ServiceProblem) as caught:
        api.get("/problem")
    assert (caught.value.code, caught.value.value, str(caught.value)) == ("refused", 7, "No. Ask nicely.")
    with pytest.raises(ServiceProblem) as caught:
        api.get("/broken")
    assert caught.value.code == "http_502"
    assert (api.status("/problem")[0], api.status("/broken")) == (422, (502, {}))


def test_nobody_is_named_as_such() -> None:
    silent = Api("http://127.0.0.1:9", TOKEN)
    assert silent.status("/ready") == (0, {})
    with pytest.raises(ServiceSilent, match="Run the first cell again"):
        silent.get("/ready")


def test_a_stream_that_breaks_is_taken_up_where_it_was_and_ends_with_the_job(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PAUSE_SECONDS", 0)
    assert [each["status"] for each in api.follow("some-id")] == ["pending", "training"]


def test_files_are_sent_as_they_are(api: Api, tmp_path: Path) -> None:
    picture = tmp_path / 'a "b".png'
    picture.write_bytes(b"\x00\xff" * 1_000_000)
    form = Form({"name": "Zoë"}, [picture])
    told = api.send("/api/datasets/", form)
    sent = b"".join(form)
    assert (told["body"].encode("latin-1"), told["type"]) == (sent, form.content_type)
    assert len(sent) == form.length
    assert b'filename="a %22b%22.png"' in sent
    assert "Zoë".encode() in sent
    assert api.post("/x", {"a": 1}, key="once") == {"type": "application/json", "key": "once", "body": '{"a": 1}'}


def test_what_is_saved_is_whole(tmp_path: Path) -> None:
    assert save(b"data", tmp_path / "new" / "a.png").read_bytes() == b"data"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]
    assert with_query("/x", {"a": None, "b": "c d"}) == "/x?b=c+d"
    assert with_query("/x", {}) == "/x"
