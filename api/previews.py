"""Half-finished pictures on their way from a worker to whoever looks; nobody keeps them, and none is missed."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)

INTERVAL_SECONDS = 0.5
ANSWER_SECONDS = 3.0
"""How long a Redis that hangs may hold up whoever offers."""
RECONNECT_SECONDS = 1.0
_CHANNEL = "masuka:preview:"


@dataclass(frozen=True, slots=True)
class Preview:
    job_id: UUID
    jpeg: bytes


class Throttle:
    """The newest of previews that may come faster than anybody wants them."""

    def __init__(self) -> None:
        self._latest: Preview | None = None
        self._arrived = asyncio.Event()
        self._given = -INTERVAL_SECONDS

    def put(self, preview: Preview) -> None:
        self._latest = preview
        self._arrived.set()

    async def next(self) -> Preview:
        """One that was not given yet, and not sooner than INTERVAL_SECONDS after the one before."""
        await asyncio.sleep(max(0.0, self._given + INTERVAL_SECONDS - time.monotonic()))
        await self._arrived.wait()
        self._arrived.clear()
        self._given = time.monotonic()
        assert self._latest is not None
        return self._latest


class Previews:
    """By Redis's channels: what is offered goes to those who look at this moment."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def offer(self, preview: Preview) -> None:
        """Send it if anybody looks."""
        channel = _channel(preview.job_id)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                ((_, lookers),) = await self._redis.pubsub_numsub(channel)
                if lookers:
                    await self._redis.publish(channel, preview.jpeg)
        except (RedisError, OSError) as exc:
            log.info("preview_not_sent", job_id=str(preview.job_id), error=str(exc))

    @asynccontextmanager
    async def looking(self, job_ids: Sequence[UUID]) -> AsyncIterator[Throttle]:
        """What is offered of these jobs from now on."""
        throttle = Throttle()
        reading = asyncio.create_task(self._read([_channel(job_id) for job_id in job_ids], throttle))
        try:
            yield throttle
        finally:
            reading.cancel()
            await asyncio.wait({reading})

    async def _read(self, channels: Sequence[str], throttle: Throttle) -> None:
        """Until cancelled; it outlives interruptions of Redis."""
        while True:
            try:
                async with self._redis.pubsub(ignore_subscribe_messages=True) as pubsub:
                    await pubsub.subscribe(*channels)
                    await _hand_on(pubsub, throttle)
            except (RedisError, OSError) as exc:
                log.info("previews_interrupted", error=str(exc))
            await asyncio.sleep(RECONNECT_SECONDS)


async def _hand_on(pubsub: PubSub, throttle: Throttle) -> None:
    async for message in pubsub.listen():
        job_id = UUID(message["channel"].decode().removeprefix(_CHANNEL))
        throttle.put(Preview(job_id, message["data"]))


def _channel(job_id: UUID) -> str:
    return f"{_CHANNEL}{job_id}"
