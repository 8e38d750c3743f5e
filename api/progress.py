"""Progress over Redis streams: one reader per process, however many clients listen.

Every event goes to two streams in one step: the job's own, from which a client that comes back replays, and the
common one, which each process reads once and hands out. Entry ids of the job's stream are the SSE event ids.
"""

import asyncio
import json
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from uuid import UUID

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from api.domain.progress import Snapshot

log = structlog.get_logger(__name__)

COMMON = "masuka:progress"
COMMON_LENGTH = 10_000
JOB_LENGTH = 1_000
KEEP_SECONDS = 7 * 24 * 3600
KEEP_ENDED_SECONDS = 600
"""For clients that come back; later ones get the end from the database. A week's pictures would be gigabytes."""
CLIENT_BUFFER = 64
ANSWER_SECONDS = 3.0
"""How long a Redis that hangs may hold up whoever publishes or asks."""
RECONNECT_SECONDS = 0.5
BLOCK_MILLISECONDS = 5000
_EVENT_ID = re.compile(r"\d{1,20}-\d{1,20}")

_PUBLISH = """
local id = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', 'd', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[5], '*', 'j', ARGV[1], 'i', id, 'd', ARGV[2])
return id
"""


@dataclass(frozen=True, slots=True)
class Event:
    id: str
    data: bytes
    """The snapshot as JSON."""


def job_stream(job_id: UUID) -> str:
    return f"{COMMON}:{job_id}"


def is_event_id(text: str) -> bool:
    return _EVENT_ID.fullmatch(text) is not None


class Progress:
    """Publish and follow snapshots. Losing Redis silences it and loses nothing: the database has the state."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._listeners: dict[str, set[asyncio.Queue[Event]]] = defaultdict(set)
        self._reader: asyncio.Task[None] | None = None

    async def publish(self, job_id: UUID, snapshot: Snapshot) -> None:
        await self.publish_all([(job_id, snapshot)])

    async def publish_all(self, news: Sequence[tuple[UUID, Snapshot]]) -> None:
        """Of many jobs, in one round trip."""
        pipe = self._redis.pipeline(transaction=False)
        for job_id, snapshot in news:
            keys = (job_stream(job_id), COMMON)
            keep = KEEP_ENDED_SECONDS if snapshot.ended else KEEP_SECONDS
            arguments = (str(job_id), json.dumps(snapshot.to_dict()), JOB_LENGTH, keep, COMMON_LENGTH)
            pipe.eval(_PUBLISH, len(keys), *keys, *map(str, arguments))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await pipe.execute()
        except (RedisError, OSError) as exc:
            log.warning("progress_not_published", jobs=[str(job_id) for job_id, _ in news[:3]], error=str(exc))

    async def last_id(self, job_id: UUID) -> str:
        """Id of the job's newest event, `0-0` when there is none (or Redis does not answer)."""
        return (await self._newest(job_stream(job_id))).decode()

    async def since(self, job_id: UUID, event_id: str) -> list[Event] | None:
        """Events after `event_id`; None when that id is not (or no longer) one of this job's."""
        if not is_event_id(event_id):
            return None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                if event_id != "0-0" and not await self._redis.xrange(job_stream(job_id), event_id, event_id):
                    return None
                entries = await self._redis.xrange(job_stream(job_id), f"({event_id}")
        except (RedisError, OSError):
            return None
        return [Event(bytes(entry_id).decode(), fields[b"d"]) for entry_id, fields in entries]

    @asynccontextmanager
    async def listen(self, *job_ids: UUID) -> AsyncIterator["asyncio.Queue[Event]"]:
        """A queue of these jobs' events from now on; a slow reader loses the oldest, never the newest."""
        queue: asyncio.Queue[Event] = asyncio.Queue(CLIENT_BUFFER)
        keys = [str(job_id) for job_id in job_ids]
        for key in keys:
            self._listeners[key].add(queue)
        if self._reader is None or self._reader.done():
            last = await self._newest(COMMON)
            if self._reader is None or self._reader.done():
                self._reader = asyncio.create_task(self._read(last), name="progress-reader")
        try:
            yield queue
        finally:
            for key in keys:
                self._listeners[key].discard(queue)
                if not self._listeners[key]:
                    del self._listeners[key]

    async def close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            with suppress(asyncio.CancelledError):
                await self._reader

    async def _newest(self, stream: str) -> bytes:
        with suppress(RedisError, OSError):
            async with asyncio.timeout(ANSWER_SECONDS):
                for entry_id, _ in await self._redis.xrevrange(stream, count=1):
                    return bytes(entry_id)
        return b"0-0"

    async def _read(self, last: bytes) -> None:
        """The process's one reader; it outlives interruptions of Redis and goes on where it was."""
        while True:
            try:
                batches = await self._redis.xread({COMMON: last}, count=500, block=BLOCK_MILLISECONDS)
            except (RedisError, OSError) as exc:
                log.warning("progress_reader_interrupted", error=str(exc))
                await asyncio.sleep(RECONNECT_SECONDS)
                continue
            for _, entries in batches or ():
                for entry_id, fields in entries:
                    last = entry_id
                    self._hand_out(fields)

    def _hand_out(self, fields: dict[bytes, bytes]) -> None:
        event = Event(fields[b"i"].decode(), fields[b"d"])
        for queue in self._listeners.get(fields[b"j"].decode(), ()):
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)
