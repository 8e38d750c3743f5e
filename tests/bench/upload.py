"""Uploads: how long they take, how much memory they hold, and whether the service answers others meanwhile."""

import asyncio
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from PIL import Image
from pydantic import SecretStr

from api.client import Api
from tests.bench.figures import BYTES_PER_MB, Fact, Result, Series
from tests.bench.machine import forget_peak, peak_bytes
from tests.bench.stand import Stand, service
from tests.servers import s3_server

LARGE, SMALL = (30, 1870), (2000, 80)
"""How many, and their side in pixels: noise as PNG has about 3 bytes a pixel, so 10 MB and 20 KB."""
QUICK_LARGE, QUICK_SMALL = (2, 256), (10, 40)
ROUNDS = 3
LOOK_SECONDS = 0.02
GROWTH_MB = 100
HEALTH_MILLISECONDS = 100


class Watch:
    """Asks the API for its health again and again while something goes on, and how much memory it took at most."""

    def __init__(self, process: psutil.Process, http: httpx.AsyncClient) -> None:
        self._process = process
        self._http = http
        forget_peak(process)
        self._before = process.memory_info().rss
        self.health: list[float] = []
        """Milliseconds."""

    @property
    def growth_mb(self) -> float:
        return (peak_bytes(self._process) - self._before) / BYTES_PER_MB

    async def look_forever(self) -> None:
        while True:
            began = time.perf_counter()
            (await self._http.get("/health")).raise_for_status()
            self.health.append(1000 * (time.perf_counter() - began))
            await asyncio.sleep(LOOK_SECONDS)


async def run(folder: Path, quick: bool) -> Result:
    kinds = (QUICK_LARGE, QUICK_SMALL) if quick else (LARGE, SMALL)
    pictures = [await asyncio.to_thread(_noise, folder / f"pictures-{count}", count, side) for count, side in kinds]
    series: list[Series] = []
    facts: list[Fact] = []
    with s3_server() as s3:
        for place, env in (("disk", {}), ("S3", {key.upper(): _plain(value) for key, value in s3.settings.items()})):
            for each in pictures:
                # A new service each: one that has just grown for the large ones has room for the small ones.
                async with service(folder / f"{place}-{each.name}", **env) as stand:
                    took, health, growth = await _measure(
                        stand, each, f"{_label(each)}, {place}", 1 if quick else ROUNDS
                    )
                series += (took, health)
                facts.append(Fact(f"memory of the API, {took.name}", "MB more", growth, at_most=GROWTH_MB))
                worst = max(health.values)
                facts.append(Fact(f"slowest /health, {took.name}", "ms", worst, at_most=HEALTH_MILLISECONDS))
    return Result(series, facts, {"rounds": 1 if quick else ROUNDS})


async def _measure(stand: Stand, pictures: Path, label: str, rounds: int) -> tuple[Series, Series, float]:
    """How long each upload took, how long /health meanwhile, and by how many MB the API grew at most."""
    took = []
    loop, upload = asyncio.get_running_loop(), partial(_upload, str(stand.http.base_url), pictures)
    # Not in this process: what it takes to send thousands of pictures would be measured as the service's.
    with ProcessPoolExecutor(1, get_context("spawn")) as sender:
        await loop.run_in_executor(sender, _ready)
        watch = Watch(stand.processes()["api"], stand.http)
        looking = asyncio.create_task(watch.look_forever())
        try:
            for _ in range(rounds):
                began = time.perf_counter()
                await loop.run_in_executor(sender, upload)
                took.append(time.perf_counter() - began)
        finally:
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking
    return Series(label, "s", tuple(took)), Series(f"/health, {label}", "ms", tuple(watch.health)), watch.growth_mb


def _ready() -> None:
    """The sender has imported what it needs."""


def _upload(url: str, pictures: Path) -> None:
    with Api(url) as api:
        api.upload_dataset(pictures, {"name": pictures.name})


def _noise(folder: Path, count: int, side: int) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / f"{number:04}.png", compress_level=0)
    return folder


def _label(pictures: Path) -> str:
    sizes = [path.stat().st_size for path in pictures.iterdir()]
    return f"{len(sizes)} of {sum(sizes) / len(sizes) / BYTES_PER_MB:.2g} MB"


def _plain(value: Any) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
