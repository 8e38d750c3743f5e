"""The API under load, with a large gallery: by the clock, and with as many requests as it answers.

Nothing works on the jobs that are submitted.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from redis.asyncio import Redis

from api.bind import free_port
from api.domain.job import Queue
from api.services.workers import pulse_key
from api.settings import PROJECT_ROOT, Settings
from api.supervisor import FEW_HEAPS
from tests.bench.figures import BYTES_PER_MB, Fact, Result, Series
from tests.bench.load import Ask, at_once, at_rate
from tests.bench.machine import peak_bytes
from tests.bench.rows import fill
from tests.bench.stand import PROMPT, SMALL, settings_in
from tests.servers import postgres_server, valkey_server
from tests.service import with_values
from tests.up_process import environment

ASSETS, QUICK_ASSETS = 100_000, 2_000
RATES = {"get": 200, "list": 40, "submit": 20}
"""Requests in a second."""
SECONDS, QUICK_SECONDS = 10.0, 0.5
CLIENTS = 8
"""So many ask at once for the most that is answered."""
DEEP_PAGES, QUICK_DEEP_PAGES = 1000, 10
PAGE = 50
PAGES_TIMED, QUICK_PAGES_TIMED = 200, 5
READY_SECONDS = 60
GET_MILLISECONDS, LIST_MILLISECONDS = 30, 60
MEMORY_MB = 200
LEAST = 1000
"""Of each kind, for a p99."""
PULSE = b'{"comfyui": "asleep", "comfyui_error": null, "bases": ["flux-tiny"]}'


async def run(folder: Path, quick: bool) -> Result:
    assets = QUICK_ASSETS if quick else ASSETS
    series: list[Series] = []
    facts: list[Fact] = []
    with valkey_server() as valkey, postgres_server() as postgres:
        postgres.run("CREATE DATABASE bench")
        for name, url in (("SQLite", ""), ("PostgreSQL", postgres.url("bench"))):
            settings = with_values(settings_in(folder / name), redis_url=valkey.url, database_url=url)
            await fill(settings, assets)
            async with _serving(settings) as (http, process):
                pages = await _pages(http, name, quick)  # first: what is submitted then waits, and its place is told
                found, most = await _loads(http, name, quick)
                memory = peak_bytes(process) / BYTES_PER_MB
            series += [*found.values(), *pages]
            facts += [
                Fact(f"get, p99, {name}", "ms", found["get"].quantile(0.99), at_most=GET_MILLISECONDS),
                Fact(f"list, p99, {name}", "ms", found["list"].quantile(0.99), at_most=LIST_MILLISECONDS),
                Fact(f"deep page to first, p50, {name}", "x", pages[1].quantile(0.5) / pages[0].quantile(0.5)),
                *most,
                Fact(f"largest memory of the API, {name}", "MB", memory, at_most=MEMORY_MB),
            ]
    return Result(series, facts, {"assets": assets, "pictures on a page": PAGE, "deep page": 1 + _deep(quick)})


@contextlib.asynccontextmanager
async def _serving(settings: Settings) -> AsyncIterator[tuple[aiohttp.ClientSession, psutil.Process]]:
    """The API alone, and what a GPU worker would say of itself."""
    port = free_port("127.0.0.1")
    env = environment(settings, DATABASE_URL=settings.database_url, REDIS_URL=settings.redis_url)
    with (settings.masuka_data_dir / "api.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "api.serve"),
            cwd=PROJECT_ROOT,
            env={**env, "MASUKA_PORT": str(port), "MASUKA_LOG_LEVEL": "warning", **FEW_HEAPS},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        async with (
            Redis.from_url(settings.redis_url) as redis,
            # Not httpx, which shares the machine with what is measured and takes as long as the API.
            aiohttp.ClientSession(f"http://127.0.0.1:{port}", raise_for_status=True) as client,
        ):
            await redis.set(pulse_key(Queue.GPU), PULSE)
            await _answers(client)
            yield client, psutil.Process(process.pid)
    finally:
        process.terminate()
        await process.wait()


async def _answers(http: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(READY_SECONDS):
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                await _json(http.get("/health"))
                return
            await asyncio.sleep(0.05)


async def _json(asked: AbstractAsyncContextManager[aiohttp.ClientResponse]) -> Any:
    async with asked as answer:
        return await answer.json()


async def _loads(http: aiohttp.ClientSession, name: str, quick: bool) -> tuple[dict[str, Series], list[Fact]]:
    """get, list and submit, one after the other: by the clock, and then as many as are answered."""
    newest = (await _json(http.get("/api/assets/", params=_page(None))))["items"]
    body: Mapping[str, Any] = {**SMALL, "prompt": PROMPT}
    asks: dict[str, Ask] = {
        "get": lambda turn: _json(http.get(f"/api/assets/{newest[turn % PAGE]['id']}")),
        "list": lambda _turn: _json(http.get("/api/assets/", params=_page(None))),
        "submit": lambda turn: _json(http.post("/api/generate/image", json={**body, "seed": turn})),
    }
    found: dict[str, Series] = {}
    most: list[Fact] = []
    for kind, ask in asks.items():
        count = int(RATES[kind] * QUICK_SECONDS) if quick else max(LEAST, int(RATES[kind] * SECONDS))
        label = f"{kind}, {RATES[kind]} a second, {name}"
        found[kind] = Series(label, "ms", tuple(await at_rate(ask, RATES[kind], count)))
        most.append(Fact(f"{kind}, {CLIENTS} at once, {name}", "a second", await at_once(ask, CLIENTS, count)))
    return found, most


async def _pages(http: aiohttp.ClientSession, name: str, quick: bool) -> tuple[Series, Series]:
    """The first page and one deep down, in turns."""
    cursor: str | None = None
    for _ in range(_deep(quick)):
        cursor = (await _json(http.get("/api/assets/", params=_page(cursor))))["next_cursor"]
    first: list[float] = []
    deep: list[float] = []
    for _ in range(QUICK_PAGES_TIMED if quick else PAGES_TIMED):
        for times, where in ((first, None), (deep, cursor)):
            began = time.perf_counter()
            await _json(http.get("/api/assets/", params=_page(where)))
            times.append(1000 * (time.perf_counter() - began))
    return Series(f"first page, {name}", "ms", tuple(first)), Series(f"deep page, {name}", "ms", tuple(deep))


def _deep(quick: bool) -> int:
    return QUICK_DEEP_PAGES if quick else DEEP_PAGES


def _page(cursor: str | None) -> dict[str, str | int]:
    return {"limit": PAGE} if cursor is None else {"limit": PAGE, "cursor": cursor}
