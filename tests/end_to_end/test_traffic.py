"""What one picture costs a tunnel: requests and bytes of a client that follows a stream and takes thumbnails."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import pytest

from tests.end_to_end.service import PROMPT, SIZE, Service

pytestmark = [pytest.mark.engines, pytest.mark.timeout(300)]


@dataclass
class Meter:
    """Between a client and the service, where the tunnel would be."""

    upstream: int
    port: int = 0
    to_client: int = 0
    from_client: int = 0

    async def serve(self, ready: threading.Event, ended: asyncio.Event) -> None:
        server = await asyncio.start_server(self._both_ways, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        async with server:
            await ended.wait()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _both_ways(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self.upstream)
        ways = [
            asyncio.create_task(self._pass(reader, back, "from_client")),
            asyncio.create_task(self._pass(there, writer, "to_client")),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            for end in (writer, back):
                end.close()
            await asyncio.gather(*ways, writer.wait_closed(), back.wait_closed(), return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: str) -> None:
        while data := await reader.read(65536):
            setattr(self, count, getattr(self, count) + len(data))
            writer.write(data)
            await writer.drain()


@contextmanager
def metered(port: int) -> Iterator[Meter]:
    meter, ready = Meter(port), threading.Event()
    loop, ended = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(meter.serve(ready, ended),))
    thread.start()
    ready.wait()
    try:
        yield meter
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


def test_a_picture_costs_three_requests_and_few_bytes_besides_its_own(service: Service) -> None:
    requests: list[str] = []
    with (
        metered(service.port) as meter,
        httpx.Client(
            base_url=f"http://127.0.0.1:{meter.port}",
            trust_env=False,
            timeout=120,
            event_hooks={"request": [lambda request: requests.append(f"{request.method} {request.url.path}")]},
        ) as http,
    ):
        body = {**SIZE, "num_inference_steps": 28, "prompt": PROMPT}
        asset = http.post("/api/generate/image", json=body).raise_for_status().json()["asset_id"]
        with http.stream("GET", f"/api/progress/stream/{asset}") as stream:
            events = [line for line in stream.iter_lines() if line.startswith("data: ")]
        thumbnail = http.get(f"/api/assets/{asset}/thumbnail").raise_for_status()
        besides = meter.to_client - len(thumbnail.content)
        whole = http.get(f"/api/assets/{asset}/file").raise_for_status()
    print(  # noqa: T201 - the figures of docs/tunnel.md, with `pytest -s`
        f"{len(requests) - 1} requests, {len(events)} events, {besides} bytes out besides the thumbnail of "
        f"{len(thumbnail.content)}, {meter.from_client} in; the PNG {len(whole.content)}"
    )
    assert len(requests) == 4  # the last one for the whole picture, which not every picture is worth
    assert '"completed"' in events[-1]
    assert besides < 30_000
    assert meter.from_client < 3_000
