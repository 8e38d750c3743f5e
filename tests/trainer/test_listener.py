"""The webhook listener before requests that no trainer sends."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from api.trainer.journal import Journal
from api.trainer.listener import MAX_BODY_BYTES, Listener


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    journal = Journal(tmp_path / "events.jsonl")
    journal.start()
    with Listener(journal) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
    journal.close(patience_seconds=1)


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (f"Content-Length: {MAX_BODY_BYTES + 1}", 413),
        ("Content-Length: -5", 411),
        ("Content-Length: \u00b2", 411),
        ("Transfer-Encoding: chunked", 411),
    ],
)
def test_a_body_without_a_sane_length_is_refused_unread(listener: Listener, header: str, status: int) -> None:
    with socket.create_connection(("127.0.0.1", listener.server_port), timeout=5) as connection:
        connection.sendall(f"POST {listener.path} HTTP/1.1\r\n{header}\r\n\r\n".encode("latin-1"))
        answer = connection.recv(100)

    assert answer.split()[1] == str(status).encode()
    assert listener.journal.written == 0


def test_only_the_trainer_that_was_told_the_path_is_heard(listener: Listener) -> None:
    root = listener.url.removesuffix(listener.path)

    assert httpx.post(root, json={}).status_code == 404
    assert httpx.post(f"{listener.url}/more", json={}).status_code == 404
    assert httpx.get(listener.url).status_code == 501
    assert listener.url.startswith("http://127.0.0.1:")
    assert len(listener.path) > 20
