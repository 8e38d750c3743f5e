"""Requests by the clock, whether or not the last was answered, and as many as are answered."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import count as counting
from typing import Any

Ask = Callable[[int], Awaitable[Any]]
"""One request; given which it is."""


async def at_rate(ask: Ask, rate: int, count: int) -> list[float]:
    """Milliseconds from the moment at which each request was due: one that waits for others counts that, too."""
    took: list[float] = []

    async def one(turn: int, due: float) -> None:
        await ask(turn)
        took.append(1000 * (time.perf_counter() - due))

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for turn in range(count):
            due = began + turn / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one(turn, due))
    return took


async def at_once(ask: Ask, clients: int, count: int) -> float:
    """Answers in a second when each of `clients` asks again as soon as it has its answer, for `count` in all."""
    turns = counting()

    async def client() -> None:
        while (turn := next(turns)) < count:
            await ask(turn)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return count / (time.perf_counter() - began)
