"""Whether the API answers at its door: asked by the supervisor, and told to the user when it is ready."""

import asyncio
import time
from dataclasses import dataclass, field

from api.bind import base_url, reachable
from api.child import Tell

POLL_SECONDS = 0.05
ANSWER_SECONDS = 2.0
READY_ANSWER_SECONDS = 30.0
EAGER_SECONDS = 10.0
SELDOM_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Door:
    host: str
    port: int
    token: str = field(repr=False)
    """Empty when none is wanted."""


async def tell_when_ready(door: Door, tell: Tell) -> None:
    began, url = time.monotonic(), base_url(door.host, door.port)
    while True:
        ready = await _says_ok(door, "/ready", READY_ANSWER_SECONDS)
        took = time.monotonic() - began
        if ready:
            tell("masuka", f"ready at {url} after {took:.1f} s; its API is described at {url}/docs")
            return
        await asyncio.sleep(ready_pause(took))


def ready_pause(waited_seconds: float) -> float:
    """Seconds until the next question: doubled each time after EAGER_SECONDS, for `/ready` writes into the storage."""
    return min(max(POLL_SECONDS, waited_seconds - EAGER_SECONDS), SELDOM_SECONDS)


async def lives(door: Door) -> bool:
    return await _says_ok(door, "/health", ANSWER_SECONDS)


async def _says_ok(door: Door, path: str, timeout_seconds: float) -> bool:
    try:
        async with asyncio.timeout(timeout_seconds):
            return await _ask(door, path)
    except OSError:  # a TimeoutError is one
        return False


async def _ask(door: Door, path: str) -> bool:
    """Whether the API says 200, without an HTTP client, which takes longer to load than the question to answer."""
    token = f"Authorization: Bearer {door.token}\r\n" if door.token else ""
    question = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{token}\r\n"
    reader, writer = await asyncio.open_connection(reachable(door.host), door.port)
    try:
        writer.write(question.encode())
        return b" 200 " in await reader.readline()
    finally:
        writer.close()
