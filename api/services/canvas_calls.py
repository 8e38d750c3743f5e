"""How the API asks the GPU worker, which owns ComfyUI, for it: calls and replies over Redis, nothing kept."""

import asyncio
import json
import secrets
import socket
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from redis.asyncio import Redis
from redis.exceptions import RedisError

from api.domain.canvas import CanvasState

CALLS = "masuka:canvas:calls"
REPLY_SECONDS = 10.0
FILES_SECONDS = 120.0
"""How long LoRAs may take that have to be fetched first."""
TAKE_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Call:
    id: str
    until: float
    """Nobody waits for the reply any more after this time, in seconds since the epoch."""
    loras: tuple[str, ...] = ()
    """Files of LoRAs that ComfyUI must have."""


@dataclass(frozen=True, slots=True)
class Reply:
    state: CanvasState
    url: str | None = None
    """Of the ComfyUI, on the worker's loopback."""
    host: str = ""
    code: str | None = None
    detail: str | None = None
    hint: str | None = None


async def ask(redis: Redis, loras: Sequence[str] = ()) -> Reply:
    """Have ComfyUI started and these files brought; ABSENT when no worker replies."""
    seconds = FILES_SECONDS if loras else REPLY_SECONDS
    call = Call(secrets.token_hex(8), time.time() + seconds, tuple(loras))
    try:
        async with asyncio.timeout(seconds):
            await redis.rpush(CALLS, json.dumps(asdict(call)))  # type: ignore[misc]
            await redis.expire(CALLS, int(FILES_SECONDS))
            _, said = await redis.blpop([_reply_key(call.id)])  # type: ignore[misc]
    except (RedisError, OSError):
        return Reply(CanvasState.ABSENT)
    fields = json.loads(said)
    return Reply(**{**fields, "state": CanvasState(fields["state"])})


async def take(redis: Redis) -> Call | None:
    """The next call for a worker; None when there was none for a while. Raises RedisError and OSError."""
    found = await redis.blpop([CALLS], timeout=TAKE_SECONDS)  # type: ignore[misc]
    if found is None:
        return None
    fields = json.loads(found[1])
    call = Call(fields["id"], fields["until"], tuple(fields["loras"]))
    return call if call.until > time.time() else None


async def answer(redis: Redis, call: Call, reply: Reply) -> None:
    """Raises RedisError and OSError."""
    key = _reply_key(call.id)
    said = json.dumps({**asdict(reply), "host": socket.gethostname()})
    await redis.rpush(key, said)  # type: ignore[misc]
    await redis.expire(key, int(FILES_SECONDS))


def _reply_key(call_id: str) -> str:
    return f"{CALLS}:{call_id}"
