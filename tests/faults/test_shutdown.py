"""`masuka up` ends within 30 s with exit code 0 and leaves nobody behind, whatever hangs or is going on meanwhile."""

import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from api.client import Api
from api.settings import Settings
from tests.servers import PostgresServer, postgres_server
from tests.service import with_values
from tests.up_process import Up, is_gone, started
from tests.waiting import until

pytestmark = pytest.mark.timeout(240)
PICTURE = {"base_model": "flux-tiny", "prompt": "a red circle", "width": 64, "height": 64}


@pytest.fixture
def settings(settings: Settings) -> Iterator[Settings]:
    with TemporaryDirectory(prefix="masuka-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield with_values(settings, masuka_data_dir=Path(folder) / "data")


def freeze(up: Up, *names: str) -> list[psutil.Process]:
    frozen = [process for name in names if (process := up.child(name)) is not None]
    assert len(frozen) == len(names)
    for process in frozen:
        process.suspend()
    return frozen


@contextmanager
def connected(up: Up, *head: str, body: bytes = b"") -> Iterator[socket.socket]:
    """A client that has sent this and stays."""
    with closing(socket.create_connection(("127.0.0.1", up.port), timeout=20)) as client:
        client.sendall("\r\n".join((*head, "Host: localhost", "", "")).encode() + body)
        yield client


@contextmanager
def watching(up: Up, any_id: str) -> Iterator[None]:
    """An open stream of progress."""
    with connected(up, f"GET /api/progress/stream/{any_id} HTTP/1.1") as client:
        assert b"200 OK" in client.recv(4096)
        yield


@contextmanager
def uploading(up: Up) -> Iterator[None]:
    """Half of an upload."""
    begun = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n' + b"\x00" * 100_000
    kind = "Content-Type: multipart/form-data; boundary=x"
    with connected(up, "POST /api/datasets/ HTTP/1.1", kind, "Content-Length: 1000000", body=begun):
        yield


async def all_gone(processes: list[psutil.Process]) -> None:
    await until(lambda: all(is_gone(process) for process in processes), 30)


async def test_frozen_parts_open_streams_and_uploads_do_not_hold_up_the_end(settings: Settings) -> None:
    with started(settings) as up, ExitStack() as clients:
        await up.ready()
        everybody = up.descendants()
        freeze(up, "worker-gpu")
        with Api(f"http://127.0.0.1:{up.port}", "") as api:
            picture = api.post("/api/generate/image", PICTURE)["task_id"]
        clients.enter_context(watching(up, picture))
        clients.enter_context(uploading(up))
        freeze(up, "redis")

        began = time.monotonic()
        assert up.end(signal.SIGTERM) == 0
        assert time.monotonic() - began < 30

        await all_gone(everybody)
        assert "masuka | stopping: " in up.text()
        assert "is still ending; it is killed in " in up.text()


async def test_parts_that_hang_are_replaced_and_what_a_killed_supervisor_leaves_is_ended_by_the_next(
    settings: Settings,
) -> None:
    hang = {"MASUKA_HANG_SECONDS": "4"}
    with started(settings, **hang) as up:
        await up.ready()
        hung = freeze(up, "api", "worker-cpu", "worker-gpu", "redis")
        await all_gone(hung)
        await up.ready_again()
        assert up.text().count("hangs: no sign of life for 4 s; it is killed") == 4

        everybody = up.descendants()
        freeze(up, "worker-gpu", "api")
        up.process.kill()
        up.process.wait()
        with started(settings) as next_up:
            await all_gone(everybody)
            await until(lambda: " ready at " in next_up.text() or next_up.process.poll() is not None, 90)
            assert next_up.end(signal.SIGINT) == 0
        assert up.text().count("was left behind by a `masuka up` that was killed") >= 2


async def test_a_database_that_is_away_is_waited_for_at_the_start_and_not_at_the_end(
    settings: Settings,
) -> None:
    with (
        postgres_server() as server,
        frozen(server) as thaw,
        started(settings, DATABASE_URL=server.url("postgres")) as up,
    ):
        await until(lambda: "The database does not answer" in up.text(), 60)
        thaw()
        await up.ready()
        everybody = up.descendants()
        with frozen(server):
            began = time.monotonic()
            assert up.end(signal.SIGTERM) == 0
            assert time.monotonic() - began < 30
        await all_gone(everybody)


@contextmanager
def frozen(server: PostgresServer) -> Iterator[Callable[[], None]]:
    """It takes connections and says nothing, until the yielded function is called or the block ends."""
    processes = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
    for process in processes:
        process.suspend()

    def thaw() -> None:
        for process in processes:
            if not is_gone(process):
                process.resume()

    try:
        yield thaw
    finally:
        thaw()
