"""The door-bell: arq tickets that say "there may be work", with nothing in them that could be lost."""

import asyncio
import json
import secrets
from collections.abc import Coroutine
from typing import Any

import structlog
from arq.connections import ArqRedis
from redis.asyncio import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import BusyLoadingError, ConnectionError, RedisError, TimeoutError

from api.domain.job import Queue

log = structlog.get_logger(__name__)

TICKET = "answer_bell"
"""Name of the arq function that claims work."""
TICKET_LIFE_SECONDS = 60
ANSWER_SECONDS = 3.0
"""How long a Redis that hangs is waited for."""
BELL_SECONDS = 0.2
"""How much of that whoever rings waits himself; the rest goes on without him."""


def queue_key(queue: Queue) -> str:
    return f"masuka:queue:{queue}"


def wake_channel(queue: Queue) -> str:
    """Published on with every ticket, so that a worker need not wait for its next poll."""
    return f"masuka:wake:{queue}"


CANCEL_CHANNEL = "masuka:cancel"
"""Published on with every wish to cancel a running job; the heartbeat would notice it too, later."""


def serialize(data: dict[str, Any]) -> bytes:
    return json.dumps(data, default=str).encode()


def deserialize(data: bytes) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(data)
    return loaded


def open_redis(url: str) -> ArqRedis:
    """A client that connects at its first command, and gives up soon when there is no Redis. JSON, never pickle.

    Nothing depends on any one command: whoever needs the answer asks again. The tries are for connections that have
    died unnoticed; those of a command and of its connecting multiply, so few of them are a second.
    """
    pool = ConnectionPool.from_url(
        url,
        retry=Retry(ExponentialBackoff(cap=0.05, base=0.01), 2),
        retry_on_error=[ConnectionError, TimeoutError, BusyLoadingError, OSError],
        retry_on_timeout=True,
        health_check_interval=15,
        socket_connect_timeout=5,
    )
    return ArqRedis(pool, job_serializer=serialize, job_deserializer=deserialize)


class JobQueue:
    """Rings for a queue. A ring that Redis loses costs time, never a job: workers look at the database too."""

    def __init__(self, redis: ArqRedis) -> None:
        self._redis = redis
        self._ringing: set[asyncio.Task[None]] = set()

    async def ring(self, queue: Queue) -> None:
        await self._briefly(self._ring(queue))

    async def announce_cancel(self, job_id: object) -> None:
        await self._briefly(self._announce_cancel(job_id))

    async def close(self) -> None:
        for task in self._ringing:
            task.cancel()
        await asyncio.gather(*self._ringing, return_exceptions=True)

    async def _briefly(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for it a moment; then it goes on by itself, so that a slow Redis slows nobody down."""
        task = asyncio.create_task(work)
        self._ringing.add(task)
        task.add_done_callback(self._ringing.discard)
        await asyncio.wait({task}, timeout=BELL_SECONDS)

    async def _ring(self, queue: Queue) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._redis.enqueue_job(
                    TICKET, _job_id=secrets.token_hex(8), _queue_name=queue_key(queue), _expires=TICKET_LIFE_SECONDS
                )
                await self._redis.publish(wake_channel(queue), b"")
        except (RedisError, OSError) as exc:
            log.warning("bell_not_rung", queue=queue.value, error=str(exc))

    async def _announce_cancel(self, job_id: object) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._redis.publish(CANCEL_CHANNEL, str(job_id))
        except (RedisError, OSError) as exc:
            log.warning("cancel_not_announced", job_id=str(job_id), error=str(exc))
