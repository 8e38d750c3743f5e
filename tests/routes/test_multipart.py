"""Uploads on their way to disk: flat memory, and nothing left of those that do not arrive."""

import asyncio
import errno
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from api.domain.upload import UploadLimits
from api.errors import InputError, MasukaError, StorageError, TooLargeError
from api.routes.multipart import Received, receive_multipart
from api.settings import PROJECT_ROOT
from tests.routes.test_form_reader import BOUNDARY, body
from tests.waiting import until

LIMITS = UploadLimits(file_bytes=50_000_000, total_bytes=200_000_000, files=5000, image_pixels=1, min_side=1)
CONTENT_TYPE = f"multipart/form-data; boundary={BOUNDARY.decode()}"


def _request(pieces: Iterable[bytes], *, gone: bool = False, **headers: str) -> Request:
    """A request whose body arrives in these pieces; `gone`: and then the client goes away."""
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": p, "more_body": True} for p in pieces]
    messages.append({"type": "http.disconnect"} if gone else {"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    named = {"content-type": CONTENT_TYPE} | {name.replace("_", "-"): value for name, value in headers.items()}
    raw = [(name.encode(), value.encode()) for name, value in named.items()]
    return Request({"type": "http", "method": "POST", "headers": raw}, receive)


@pytest.fixture
def into(tmp_path: Path) -> Path:
    return tmp_path / "new" / "incoming"


async def _error(request: Request, into: Path, limits: UploadLimits = LIMITS) -> MasukaError:
    with pytest.raises(MasukaError) as caught:
        await receive_multipart(request, into, limits)
    assert not into.exists()
    return caught.value


async def test_files_are_on_disk_and_fields_in_memory(into: Path) -> None:
    big = bytes(range(256)) * 20_000
    data = body([("name", None, b"me"), ("files", "a.png", big), ("files", "a.txt", b"text")])
    received = await receive_multipart(_request([data[:3_000_000], data[3_000_000:]]), into, LIMITS)
    assert received.fields == {"name": ["me"]}
    assert [(f.filename, f.path.read_bytes()) for f in received.files] == [("a.png", big), ("a.txt", b"text")]
    assert [f.path.parent for f in received.files] == [into, into]


async def test_two_thousand_small_files_pass_in_one_request(into: Path) -> None:
    data = body([("files", f"{n}.png", str(n).encode()) for n in range(2000)])
    received = await receive_multipart(_request([data]), into, LIMITS)
    assert [f.path.read_bytes() for f in received.files] == [str(n).encode() for n in range(2000)]


async def test_a_form_without_files_makes_no_error(into: Path) -> None:
    assert await receive_multipart(_request([body([("name", None, b"me")])]), into, LIMITS) == Received(
        {"name": ["me"]}, []
    )


async def test_a_cut_off_body_leaves_nothing(into: Path) -> None:
    data = body([("files", "a.png", b"x" * 3_000_000)])
    error = await _error(_request([data[:2_000_000]]), into)
    assert (type(error), error.code) == (InputError, "upload_incomplete")


async def test_a_client_that_goes_away_leaves_nothing(into: Path) -> None:
    data = body([("files", "a.png", b"x" * 3_000_000)])
    assert (await _error(_request([data[:2_000_000]], gone=True), into)).code == "upload_incomplete"


async def test_a_file_over_its_limit_leaves_nothing_of_those_before_it(into: Path) -> None:
    data = body([("files", "a.png", b"x" * 2_000_000), ("files", "b.png", b"x" * 5_000_000)])
    limits = UploadLimits(4_000_000, 100_000_000, 10, 1, 1)
    error = await _error(_request([data[n : n + 65536] for n in range(0, len(data), 65536)]), into, limits)
    assert (type(error), error.code) == (TooLargeError, "file_too_large")


async def test_a_body_that_announces_too_much_is_refused_unread(into: Path) -> None:
    error = await _error(_request([], content_length=str(LIMITS.total_bytes + 1)), into)
    assert (type(error), error.code) == (TooLargeError, "upload_too_large")


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data", "multipart/mixed; boundary=x", ""])
async def test_a_body_that_is_no_form_is_refused(into: Path, content_type: str) -> None:
    error = await _error(_request([b"{}"], content_type=content_type), into)
    assert (error.code, error.value) == ("multipart_invalid", content_type)


async def test_a_folder_that_exists_is_neither_written_to_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    with pytest.raises(StorageError):
        await receive_multipart(_request([body([("files", "a.png", b"x")])]), tmp_path, LIMITS)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


async def test_a_full_disk_is_said_to_be_full_and_what_was_written_is_removed(into: Path, monkeypatch) -> None:
    opened = Path.open

    def open_full(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path.name == "00001":
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", open_full)
    error = await _error(_request([body([("files", "a.png", b"x"), ("files", "b.png", b"x")])]), into)
    assert (type(error), error.code, error.status) == (StorageError, "disk_full", 503)


async def test_a_cancelled_upload_leaves_nothing(into: Path) -> None:
    data = body([("files", "a.png", b"x" * 3_000_000)])
    waiting = asyncio.Event()
    request = _request([data[:2_000_000]])
    first = request._receive

    async def receive_once_then_hang() -> Any:
        if waiting.is_set():
            await asyncio.Event().wait()
        waiting.set()
        return await first()

    request._receive = receive_once_then_hang
    task = asyncio.create_task(receive_multipart(request, into, LIMITS))
    await waiting.wait()
    await until(into.exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not into.exists()


@dataclass
class Served:
    """A real server that receives uploads into folders below `root`."""

    root: Path
    port: int = 0
    errors: list[str] = field(default_factory=list)
    answered: asyncio.Event = field(default_factory=asyncio.Event)

    async def upload(self, request: Request) -> JSONResponse:
        try:
            received = await receive_multipart(request, self.root / "incoming", LIMITS)
        except MasukaError as exc:
            self.errors.append(exc.code)
            return JSONResponse({"code": exc.code}, exc.status)
        finally:
            self.answered.set()
        shutil.rmtree(self.root / "incoming")
        return JSONResponse({"sizes": [file.size for file in received.files]})


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    served = Served(tmp_path)
    app = Starlette(routes=[Route("/", served.upload, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off"))
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    served.port = server.servers[0].sockets[0].getsockname()[1]
    yield served
    server.should_exit = True
    await task


async def test_a_real_client_is_understood(served: Served) -> None:
    files = [("files", ("Köln.png", b"x" * 2_000_000)), ("files", ("b.png", b""))]
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"http://127.0.0.1:{served.port}/", files=files, data={"name": "me"})
    assert answer.json() == {"sizes": [2_000_000, 0]}


async def test_a_connection_lost_half_way_leaves_nothing(served: Served) -> None:
    data = body([("files", "a.png", b"x" * 5_000_000)])
    _, writer = await asyncio.open_connection("127.0.0.1", served.port)
    head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data[:3_000_000])
    await writer.drain()
    await until((served.root / "incoming").exists)
    writer.close()
    await writer.wait_closed()
    async with asyncio.timeout(10):
        await served.answered.wait()
    assert served.errors == ["upload_incomplete"]
    assert not (served.root / "incoming").exists()


MEASURE = """
import asyncio, json, resource, sys
from pathlib import Path
from starlette.requests import Request
from api.domain.upload import UploadLimits
from api.routes.multipart import receive_multipart

FILES, FILE_BYTES, PIECE = 200, 10_000_000, b"x" * 62_500

async def pieces():
    for number in range(FILES):
        yield (f'--B\\r\\nContent-Disposition: form-data; name="files"; filename="{number}.png"\\r\\n\\r\\n').encode()
        for _ in range(FILE_BYTES // len(PIECE)):
            yield PIECE
        yield b"\\r\\n"
    yield b"--B--\\r\\n"

async def main():
    source = pieces()
    async def receive():
        piece = await anext(source, b"")
        return {"type": "http.request", "body": piece, "more_body": bool(piece)}
    headers = [(b"content-type", b"multipart/form-data; boundary=B")]
    request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    received = await receive_multipart(request, Path(sys.argv[1]), UploadLimits(2**30, 2**32, 5000, 1, 1))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({"files": len(received.files), "size": {f.size for f in received.files}.pop(), "grown_kb": grown}))

asyncio.run(main())
"""


def test_two_hundred_files_of_ten_megabytes_pass_in_flat_memory(tmp_path: Path) -> None:
    """In a process of its own, because the peak of a process never falls. 2 GB in all; 32 MB is generous."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, tmp_path / "in"], cwd=PROJECT_ROOT, capture_output=True, check=False, text=True
    )
    shutil.rmtree(tmp_path / "in")
    assert done.stderr == ""
    measured = json.loads(done.stdout)
    assert (measured["files"], measured["size"]) == (200, 10_000_000)
    assert measured["grown_kb"] < 32 * 1024
