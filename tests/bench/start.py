"""How long until it is ready, with and without ComfyUI, and what it takes while nothing is asked of it."""

import asyncio
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import httpx

from api.client import Api
from tests.bench.figures import BYTES_PER_MB, Fact, Result, Series
from tests.bench.stand import Stand, service

COUNT, QUICK_COUNT = 7, 1
IDLE_SECONDS, QUICK_IDLE_SECONDS = 60.0, 2.0
READY_SECONDS = 5
WITH_COMFYUI_SECONDS = 2
IDLE_PERCENT = 3
COMFYUI_SECONDS = 120
POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class OwnStart:
    """How MASUKA has started its ComfyUI."""

    words: list[str]
    folder: str
    env: dict[str, str]
    url: str

    @classmethod
    def of(cls, stand: Stand) -> Self:
        process = stand.comfyui()
        return cls(process.cmdline(), process.cwd(), process.environ(), stand.comfyui_url())

    def seconds(self) -> float:
        """The same again by itself, until it answers. Raises TimeoutError."""
        began = time.perf_counter()
        quiet = subprocess.DEVNULL
        comfyui = subprocess.Popen(self.words, cwd=self.folder, env=self.env, stdin=quiet, stdout=quiet, stderr=quiet)
        try:
            while not self._answers():
                if time.perf_counter() - began > COMFYUI_SECONDS:
                    raise TimeoutError(f"ComfyUI did not answer at {self.url}")
                time.sleep(POLL_SECONDS)
            return time.perf_counter() - began
        finally:
            comfyui.terminate()
            comfyui.wait()

    def _answers(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/system_stats", trust_env=False).is_success
        return False


async def run(folder: Path, quick: bool) -> Result:
    ready: list[float] = []
    until_drawing: list[float] = []
    own: list[float] = []
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
            until_drawing.append(await _until_drawing(stand))
            comfyui = OwnStart.of(stand)
        own.append(await asyncio.to_thread(comfyui.seconds))
    until_ready = Series("masuka up until ready", "s", tuple(ready[1:] or ready))
    first = Series("first picture asked for until ComfyUI begins it", "s", tuple(until_drawing[1:] or until_drawing))
    bare = Series("ComfyUI's own start", "s", tuple(own[1:] or own))
    above = first.quantile(0.5) - bare.quantile(0.5)
    facts = [
        Fact("until ready, p50", "s", until_ready.quantile(0.5), at_most=READY_SECONDS),
        Fact("with ComfyUI, above its own start, p50", "s", above, at_most=WITH_COMFYUI_SECONDS),
        Fact("idle, all processes", "% of a core", sum(used.values()), at_most=IDLE_PERCENT),
        *(Fact(f"idle, {name}", "% of a core", percent) for name, percent in used.items()),
        *(Fact(f"memory, {name}", "MB", megabytes) for name, megabytes in held.items()),
    ]
    about: dict[str, str | int | float] = {"starts": len(ready), "first one": "left out: it makes the database"}
    return Result((until_ready, first, bare), facts, about)


def _wait_ready(stand: Stand) -> None:
    with Api(str(stand.http.base_url)) as api:
        api.wait_ready(60)


async def _until_drawing(stand: Stand) -> float:
    """Seconds from the request for the first picture, for which ComfyUI starts, until ComfyUI begins it."""
    seen, asked = len(stand.events()), time.monotonic()
    await stand.draw_patiently()
    return next(event.at for event in stand.events()[seen:] if event.event == "execution_start") - asked


async def _idle(stand: Stand, seconds: float) -> dict[str, float]:
    """Per cent of one core, by process, while nobody asks anything."""
    before = {name: sum(process.cpu_times()[:2]) for name, process in stand.processes().items()}
    began = time.perf_counter()
    await asyncio.sleep(seconds)
    took = time.perf_counter() - began
    after = {name: sum(process.cpu_times()[:2]) for name, process in stand.processes().items()}
    return {name: 100 * (after[name] - before[name]) / took for name in before}
