"""One-time links: a key that lets one browser in, once, for a few minutes. Redis knows only its hash."""

import hashlib
import hmac
import secrets

from redis.asyncio import Redis

LIFE_SECONDS = 600
_USED = b"used"


def new_key(token: str, repeat_of: str | None) -> str:
    """Another one each time; for a repeated request, which names itself, the same."""
    if repeat_of is None:
        return secrets.token_urlsafe(32)
    return hmac.new(token.encode(), b"masuka door link " + repeat_of.encode(), hashlib.sha256).hexdigest()


async def offer(redis: Redis, key: str) -> None:
    """It opens from now on, unless it was offered before. Raises RedisError and OSError."""
    await redis.set(_name(key), b"open", ex=LIFE_SECONDS, nx=True)


async def opens(redis: Redis, key: str) -> bool:
    """Whether it would, without using it up. Raises RedisError and OSError."""
    return bool(await redis.get(_name(key)) == b"open")


async def use(redis: Redis, key: str) -> bool:
    """Whether it opens now; of several who use it at once, one is let in. Raises RedisError and OSError."""
    before = await redis.set(_name(key), _USED, ex=LIFE_SECONDS, xx=True, get=True)
    return bool(before == b"open")


def _name(key: str) -> str:
    return f"masuka:door:{hashlib.sha256(key.encode()).hexdigest()}"
