"""What the workers say of themselves: a pulse in Redis that ends soon after they do."""

import asyncio
import json
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from api.domain.job import Queue
from api.domain.nodes import ModelFiles
from api.engines import locate
from api.settings import Settings

PULSE_SECONDS = 3
PULSE_LIFE_SECONDS = 12
ANSWER_SECONDS = 2.0
"""How long a Redis that hangs may hold up whoever asks for a pulse."""


def pulse_key(queue: Queue) -> str:
    return f"masuka:worker:{queue}"


async def pulse(redis: Redis, queue: Queue) -> dict[str, Any] | None:
    """The last pulse of this queue's worker; None when there is no worker, or Redis does not answer."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            found = await redis.get(pulse_key(queue))
    except (RedisError, OSError):
        return None
    return None if found is None else dict(json.loads(found))


async def installed_bases(redis: Redis, settings: Settings) -> set[str]:
    """Base models that can be used: what the GPU worker says, or what is on this machine when it does not answer."""
    return bases_of(await pulse(redis, Queue.GPU), settings)


async def installed_captioners(redis: Redis, settings: Settings) -> set[str]:
    """Captioners that can be used, from the same source."""
    said = await pulse(redis, Queue.GPU)
    return set(said["captioners"] if said and "captioners" in said else locate.installed_captioners(settings))


async def model_files(redis: Redis, settings: Settings) -> dict[str, ModelFiles]:
    """By base model the files that a workflow may name, from the same source."""
    said = await pulse(redis, Queue.GPU)
    found: dict[str, ModelFiles] = {**(said["files"] if said and "files" in said else locate.model_files(settings))}
    return found


def bases_of(said: dict[str, Any] | None, settings: Settings) -> set[str]:
    """The same, from a GPU worker's pulse."""
    return set(said["bases"]) if said and "bases" in said else set(locate.installed_bases(settings))
