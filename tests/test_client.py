"""The client of the API that the command line and the demo use."""

import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from api.client import Api
from api.errors import UnavailableError

FILES = 200


class Handler(BaseHTTPRequestHandler):
    """Answers an upload with how large it was; a download breaks off half-way."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(b'{"pictures": %d, "bytes": %d}' % (body.count(b"filename="), body.count(b"x")))

    def do_GET(self) -> None:
        self._answer(b"half", length=8)

    def _answer(self, body: bytes, length: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(length or len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def api() -> Iterator[Api]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        with Api(f"http://127.0.0.1:{server.server_port}") as client:
            yield client
        server.shutdown()
        serving.join()


@contextmanager
def few_open_files() -> Iterator[None]:
    """This process may open only a few more files than it has open now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + FILES // 4, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_dataset_may_have_more_files_than_a_process_may_open(api: Api, tmp_path: Path) -> None:
    for number in range(FILES):
        (tmp_path / f"{number}.png").write_bytes(b"x" * 1000)
    with few_open_files():
        answer = api.upload_dataset(tmp_path, {"name": "me"})
    assert answer["pictures"] == FILES
    assert answer["bytes"] == FILES * 1000


def test_a_download_that_breaks_off_is_an_error_and_leaves_no_file(api: Api, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as caught:
        api.download("/api/assets/1/file", tmp_path / "folder" / "a.png")
    assert caught.value.code == "api_unreachable"
    assert list((tmp_path / "folder").iterdir()) == []
