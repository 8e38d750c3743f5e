"""The door-bell on a real Valkey: heard at once, lost without harm, and never more than a ring."""

import asyncio
import pickle
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from arq.connections import ArqRedis

from api.domain.job import Kind, Queue
from api.queue import CANCEL_CHANNEL, TICKET_LIFE_SECONDS, JobQueue, open_redis, queue_key, wake_channel
from api.resources import Resources, open_resources
from api.settings import Settings
from api.tasks.dispatch import Dispatcher
from api.worker import answer_bells
from tests.waiting import until, until_async


class Listener(Dispatcher):
    """Counts how often it was asked to look for work."""

    def __init__(self, resources: Resources) -> None:
        super().__init__(resources, Queue.GPU, dict[Kind, None]())  # type: ignore[arg-type]
        self.rings = 0

    async def pump(self) -> None:
        self.rings += 1


@pytest.fixture
async def resources(settings: Settings, valkey_url: str) -> AsyncIterator[Resources]:
    async with open_resources(settings, valkey_url) as opened:
        yield opened


@asynccontextmanager
async def listening(resources: Resources) -> AsyncIterator[Listener]:
    """A worker at the door."""
    listener = Listener(resources)
    task = asyncio.create_task(answer_bells(resources, listener))
    await until_async(lambda: _subscribers(resources.redis, wake_channel(Queue.GPU)))
    yield listener
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


async def _subscribers(redis: ArqRedis, channel: str) -> int:
    return int((await redis.pubsub_numsub(channel))[0][1])


async def tickets(resources: Resources) -> int:
    return int(await resources.redis.zcard(queue_key(Queue.GPU)))


async def test_a_ring_is_answered_at_once(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.worker.POLL_SECONDS", 3600)
    async with listening(resources) as listener:
        await resources.queue.ring(Queue.GPU)

        await until(lambda: listener.rings == 1)
        await until_async(lambda: _no_tickets(resources))


async def _no_tickets(resources: Resources) -> bool:
    return await tickets(resources) == 0


async def test_what_rang_while_nobody_was_there_is_answered_later(resources: Resources) -> None:
    await resources.queue.ring(Queue.GPU)
    assert await tickets(resources) == 1

    async with listening(resources) as listener:
        await until(lambda: listener.rings == 1)


async def test_a_hundred_rings_at_once_are_all_answered(resources: Resources) -> None:
    async with listening(resources) as listener:
        await asyncio.gather(*(resources.queue.ring(Queue.GPU) for _ in range(100)))

        await until(lambda: listener.rings == 100)


async def test_each_queue_has_its_own_bell(resources: Resources) -> None:
    async with listening(resources) as listener:
        await resources.queue.ring(Queue.CPU)
        await resources.queue.ring(Queue.GPU)

        await until(lambda: listener.rings == 1)
        assert await resources.redis.zcard(queue_key(Queue.CPU)) == 1


async def test_tickets_are_json_and_do_not_stay_for_ever(resources: Resources) -> None:
    await resources.queue.ring(Queue.GPU)

    (key,) = await resources.redis.keys("arq:job:*")
    assert (await resources.redis.get(key)).startswith(b"{")
    assert 0 < await resources.redis.ttl(key) <= TICKET_LIFE_SECONDS


async def test_what_somebody_else_put_into_the_queue_is_not_run_and_does_no_harm(resources: Resources) -> None:
    async with listening(resources) as listener:
        await resources.redis.psetex(
            "arq:job:foreign", 60_000, pickle.dumps({"t": 1, "f": "x", "a": (), "k": {}, "et": 1})
        )
        await resources.redis.zadd(queue_key(Queue.GPU), {"foreign": 1})
        await resources.redis.enqueue_job("no_such_function", _queue_name=queue_key(Queue.GPU))

        await resources.queue.ring(Queue.GPU)

        await until(lambda: listener.rings == 1)


async def test_cancels_are_announced_by_id(resources: Resources) -> None:
    async with resources.redis.pubsub() as pubsub:
        await pubsub.subscribe(CANCEL_CHANNEL)
        await pubsub.get_message(timeout=5)

        await resources.queue.announce_cancel("some id")

        async with asyncio.timeout(5):
            while (message := await pubsub.get_message(ignore_subscribe_messages=True, timeout=1)) is None:
                pass
        assert message["data"] == b"some id"


async def test_ringing_where_there_is_no_redis_is_no_error() -> None:
    redis = open_redis("unix:///nowhere/redis.sock")
    queue = JobQueue(redis)

    await queue.ring(Queue.GPU)
    await queue.announce_cancel("some id")

    await redis.aclose(close_connection_pool=True)
