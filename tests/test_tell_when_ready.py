"""`masuka up` says when everything is ready, however long that takes, and does not wear the storage out by asking."""

import asyncio

import pytest

from api import door
from api.door import EAGER_SECONDS, POLL_SECONDS, SELDOM_SECONDS, Door, ready_pause, tell_when_ready

NOT_READY, READY = b"HTTP/1.1 503 Service Unavailable\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"


async def test_an_answer_that_never_comes_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "READY_ANSWER_SECONDS", 0.2)
    answers = [None, NOT_READY, READY]
    lines = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = answers.pop(0)
        await reader.readuntil(b"\r\n\r\n")
        if said is None:
            await reader.read()  # until the other side gives up
        else:
            writer.write(said)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        await tell_when_ready(Door("127.0.0.1", port, ""), lambda name, line: lines.append((name, line)))

    assert answers == []
    assert len(lines) == 1
    assert lines[0][1].startswith(f"ready at http://127.0.0.1:{port} after ")


def test_a_service_that_is_not_ready_for_an_hour_is_asked_seldom() -> None:
    waited, pauses = 0.0, []
    while waited < 3600:
        pauses.append(ready_pause(waited))
        waited += pauses[-1]

    eager = round(EAGER_SECONDS / POLL_SECONDS)
    assert set(pauses[:eager]) == {POLL_SECONDS}
    assert pauses == sorted(pauses)
    assert pauses[-1] == SELDOM_SECONDS
    assert len(pauses) < eager + 3600 / SELDOM_SECONDS + 20
