"""Progress on a real Valkey: everybody hears their job, in order; who is slow loses the oldest; one reader for all."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from uuid import UUID, uuid4

import pytest
from arq.connections import ArqRedis
from hypothesis import given
from hypothesis import strategies as st

from api import progress
from api.domain.job import TERMINAL, Status
from api.domain.progress import Snapshot
from api.progress import (
    CLIENT_BUFFER,
    JOB_LENGTH,
    KEEP_ENDED_SECONDS,
    KEEP_SECONDS,
    Event,
    Progress,
    is_event_id,
    job_stream,
)
from api.queue import open_redis


@pytest.fixture
async def redis(valkey_url: str) -> AsyncIterator[ArqRedis]:
    opened = open_redis(valkey_url)
    yield opened
    await opened.aclose(close_connection_pool=True)


@pytest.fixture
async def channel(redis: ArqRedis) -> AsyncIterator[Progress]:
    opened = Progress(redis)
    yield opened
    await opened.close()


async def tell(channel: Progress, job_id: UUID, *steps: int) -> None:
    for step in steps:
        await channel.publish(job_id, Snapshot("training", step=step))


async def heard(queue: "asyncio.Queue[Event]", count: int) -> list[int]:
    async with asyncio.timeout(10):
        return [json.loads((await queue.get()).data)["step"] for _ in range(count)]


async def test_a_listener_hears_its_job_and_no_other_in_order(channel: Progress) -> None:
    mine, other = uuid4(), uuid4()
    async with channel.listen(mine) as queue:
        await tell(channel, mine, 1)
        await tell(channel, other, 99)
        await tell(channel, mine, 2, 3)

        assert await heard(queue, 3) == [1, 2, 3]
        assert queue.empty()


async def test_what_was_before_is_not_heard_but_can_be_asked_for(channel: Progress) -> None:
    job_id = uuid4()
    await tell(channel, job_id, 1, 2)
    async with channel.listen(job_id) as queue:
        await tell(channel, job_id, 3)
        assert await heard(queue, 1) == [3]

    everything = await channel.since(job_id, "0-0")
    assert everything is not None
    assert [json.loads(event.data)["step"] for event in everything] == [1, 2, 3]
    assert await channel.since(job_id, everything[1].id) == everything[2:]
    assert await channel.last_id(job_id) == everything[2].id


async def test_what_is_heard_has_the_id_by_which_it_can_be_asked_for(channel: Progress) -> None:
    job_id = uuid4()
    async with channel.listen(job_id) as queue:
        await tell(channel, job_id, 1)
        event = await queue.get()

    assert await channel.since(job_id, "0-0") == [event]


@pytest.mark.parametrize("event_id", ["", "junk", "1", "-", "+", "1-1", "0-1", "99999999999999-0"])
async def test_an_id_that_was_never_given_is_not_known(channel: Progress, event_id: str) -> None:
    job_id = uuid4()
    await tell(channel, job_id, 1)

    assert await channel.since(job_id, event_id) is None


async def test_an_unknown_job_has_no_events(channel: Progress) -> None:
    assert await channel.last_id(uuid4()) == "0-0"
    assert await channel.since(uuid4(), "0-0") == []


@given(st.text())
def test_only_what_redis_gives_out_is_an_id(text: str) -> None:
    milliseconds, _, number = text.partition("-")
    assert not is_event_id(text) or (milliseconds.isdecimal() and number.isdecimal())


async def test_many_listeners_share_one_reader(channel: Progress, redis: ArqRedis) -> None:
    job_ids = [uuid4() for _ in range(50)]
    async with AsyncExitStack() as stack:
        queues = [await stack.enter_async_context(channel.listen(job_id)) for job_id in job_ids for _ in range(2)]
        for step, job_id in enumerate(job_ids):
            await tell(channel, job_id, step)

        assert [await heard(queue, 1) for queue in queues] == [[step] for step in range(50) for _ in range(2)]
        blocked = [client for client in await redis.client_list() if client["cmd"] == "xread"]
        assert len(blocked) == 1


async def test_a_slow_listener_loses_the_oldest_never_the_newest(channel: Progress) -> None:
    slow, quick = uuid4(), uuid4()
    async with channel.listen(slow) as queue, channel.listen(quick) as last:
        await tell(channel, slow, *range(CLIENT_BUFFER + 10))
        await tell(channel, quick, 0)
        await heard(last, 1)

        assert await heard(queue, CLIENT_BUFFER) == list(range(10, CLIENT_BUFFER + 10))


async def test_listeners_that_have_gone_are_forgotten(channel: Progress) -> None:
    async with channel.listen(uuid4()):
        assert channel._listeners
    assert not channel._listeners


async def test_two_processes_hear_the_same(redis: ArqRedis, channel: Progress) -> None:
    other, job_id = Progress(redis), uuid4()
    async with other.listen(job_id) as one, channel.listen(job_id) as two:
        await tell(channel, job_id, 1)

        assert await heard(one, 1) == await heard(two, 1) == [1]
    await other.close()


async def test_a_jobs_events_are_bounded_in_number_and_in_time(
    channel: Progress, redis: ArqRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "JOB_LENGTH", 10)
    job_id = uuid4()
    await tell(channel, job_id, *range(300))

    assert await redis.xlen(job_stream(job_id)) < 300 < JOB_LENGTH
    assert KEEP_ENDED_SECONDS < await redis.ttl(job_stream(job_id)) <= KEEP_SECONDS


@pytest.mark.parametrize("end", sorted(TERMINAL))
async def test_the_events_of_an_ended_job_can_be_asked_for_some_minutes(
    channel: Progress, redis: ArqRedis, end: Status
) -> None:
    job_id = uuid4()
    await tell(channel, job_id, 1)
    await channel.publish(job_id, Snapshot(end.value))

    assert 0 < await redis.ttl(job_stream(job_id)) <= KEEP_ENDED_SECONDS
    assert await redis.xlen(job_stream(job_id)) == 2


async def test_without_redis_nothing_is_told_and_nothing_fails() -> None:
    redis = open_redis("unix:///nowhere/redis.sock")
    channel = Progress(redis)

    await tell(channel, uuid4(), 1)

    assert await channel.last_id(uuid4()) == "0-0"
    assert await channel.since(uuid4(), "0-0") is None
    await redis.aclose(close_connection_pool=True)
