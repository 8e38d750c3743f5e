"""How long until it is ready, and what it takes while nothing is asked of it."""

import asyncio
import time
from pathlib import Path

from api.client import Api
from tests.bench.figures import Fact, Result, Series
from tests.bench.stand import Stand, service

COUNT, QUICK_COUNT = 7, 1
IDLE_SECONDS, QUICK_IDLE_SECONDS = 60.0, 2.0
BYTES_PER_MB = 1024 * 1024
READY_SECONDS = 5
IDLE_PERCENT = 3


async def run(folder: Path, quick: bool) -> Result:
    ready: list[float] = []
    used: dict[str, float] = {}
    held: dict[str, float] = {}
    for _ in range(QUICK_COUNT if quick else COUNT):
        began = time.perf_counter()
        async with service(folder) as stand:
            await asyncio.to_thread(_wait_ready, stand)
            ready.append(time.perf_counter() - began)
            if not used:
                used = await _idle(stand, QUICK_IDLE_SECONDS if quick else IDLE_SECONDS)
                held = {name: process.memory_info().rss / BYTES_PER_MB for name, process in stand.processes().items()}
    until_ready = Series("masuka up until ready", "s", tuple(ready[1:] or ready))
    facts = [
        Fact("until ready, p50", "s", until_ready.quantile(0.5), at_most=READY_SECONDS),
        Fact("idle, all processes", "% of a core", sum(used.values()), at_most=IDLE_PERCENT),
        *(Fact(f"idle, {name}", "% of a core", percent) for name, percent in used.items()),
        *(Fact(f"memory, {name}", "MB", megabytes) for name, megabytes in held.items()),
    ]
    return Result((until_ready,), facts, {"starts": len(ready), "first one": "left out: it makes the database"})


def _wait_ready(stand: Stand) -> None:
    with Api(str(stand.http.base_url)) as api:
        api.wait_ready(60)


async def _idle(stand: Stand, seconds: float) -> dict[str, float]:
    """Per cent of one core, by process, while nobody asks anything."""
    before = {name: sum(process.cpu_times()[:2]) for name, process in stand.processes().items()}
    began = time.perf_counter()
    await asyncio.sleep(seconds)
    took = time.perf_counter() - began
    after = {name: sum(process.cpu_times()[:2]) for name, process in stand.processes().items()}
    return {name: 100 * (after[name] - before[name]) / took for name in before}
