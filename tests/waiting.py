"""Wait for what will become true, instead of sleeping and hoping."""

import asyncio
from collections.abc import Awaitable, Callable

FOR_EVER = float("inf")


async def until(condition: Callable[[], object], seconds: float = 10, *, every: float = 0.01) -> None:
    """Raises TimeoutError if it has not come true in time."""
    async with asyncio.timeout(seconds):
        while True:
            if condition():
                return
            await asyncio.sleep(every)


async def until_async(condition: Callable[[], Awaitable[object]], seconds: float = 10) -> None:
    """The same for a condition that must be asked of a server."""
    async with asyncio.timeout(seconds):
        while True:
            if await condition():
                return
            await asyncio.sleep(0.01)
