"""Previews reach those who look, at most two in a second, and cost nothing when nobody does."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from sse_starlette import ServerSentEvent

from api import previews as module
from api.previews import Preview, Previews, Throttle
from api.queue import open_redis
from api.routes.preview_events import with_previews
from tests.waiting import until_async

JOB, ASSET = uuid4(), uuid4()


@pytest.fixture
async def previews(valkey_url: str) -> AsyncIterator[Previews]:
    redis = open_redis(valkey_url)
    yield Previews(redis)
    await redis.aclose(close_connection_pool=True)


async def _published(previews: Previews, preview: Preview) -> bool:
    """Whether somebody has looked."""
    sent: list[Any] = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(previews._redis, name)

        async def publish(self, channel: str, data: bytes) -> int:
            sent.append(data)
            return int(await previews._redis.publish(channel, data))

    await Previews(Counting()).offer(preview)  # type: ignore[arg-type]
    return bool(sent)


async def test_a_preview_is_sent_only_while_somebody_looks(previews: Previews) -> None:
    preview = Preview(JOB, b"\xff\xd8 a picture")
    assert not await _published(previews, preview)
    async with previews.looking([JOB, uuid4()]) as throttle:
        await until_async(lambda: _published(previews, preview))
        assert await throttle.next() == preview
        assert not await _published(previews, Preview(uuid4(), b"another's"))
    await until_async(lambda: _negated(_published(previews, preview)))


async def _negated(truth: Any) -> bool:
    return not await truth


async def test_a_redis_that_is_away_costs_no_more_than_the_preview() -> None:
    redis = open_redis("redis://127.0.0.1:1")
    try:
        await Previews(redis).offer(Preview(JOB, b"x"))
        async with Previews(redis).looking([JOB]) as throttle:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(throttle.next(), 0.05)
    finally:
        await redis.aclose(close_connection_pool=True)


async def test_of_those_that_come_too_fast_only_the_newest_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL_SECONDS", 0.05)
    throttle = Throttle()
    began = time.monotonic()
    shown = []
    for number in range(3):
        for each in range(10):
            throttle.put(Preview(JOB, bytes([number, each])))
        shown.append((await throttle.next()).jpeg)
    assert shown == [bytes([number, 9]) for number in range(3)]
    assert time.monotonic() - began >= 2 * 0.05


async def test_a_stream_has_previews_between_its_events_and_ends_with_them(previews: Previews) -> None:
    more = asyncio.Event()

    async def events() -> AsyncGenerator[ServerSentEvent, None]:
        yield ServerSentEvent("first", id="1-0")
        await more.wait()
        yield ServerSentEvent("last", id="2-0")

    async def offered() -> bool:
        return await _published(previews, Preview(JOB, b"half a picture"))

    stream = with_previews(events(), previews, {JOB: ASSET})
    assert (await anext(stream)).data == "first"
    offering = asyncio.create_task(until_async(offered))
    preview = await anext(stream)
    await offering
    assert (preview.event, preview.id) == ("preview", None)
    said = json.loads(str(preview.data))
    assert UUID(said["asset_id"]) == ASSET
    head, _, body = said["image"].partition(",")
    assert (head, base64.b64decode(body)) == ("data:image/jpeg;base64", b"half a picture")
    more.set()
    assert [event.data async for event in stream if event.event is None] == ["last"]


async def test_a_stream_that_is_left_looks_no_more(previews: Previews) -> None:
    async def events() -> AsyncGenerator[ServerSentEvent, None]:
        yield ServerSentEvent("first")
        await asyncio.Event().wait()

    stream = with_previews(events(), previews, {JOB: ASSET})
    await anext(stream)
    await until_async(lambda: _published(previews, Preview(JOB, b"x")))
    await stream.aclose()
    await until_async(lambda: _negated(_published(previews, Preview(JOB, b"x"))))
