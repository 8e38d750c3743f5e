"""The presets, and which of them the machine that trains has room for."""

import asyncio
from functools import cache
from pathlib import Path

from redis.asyncio import Redis

from api.domain import preset
from api.domain.job import Queue
from api.domain.preset import Preset
from api.engines import gpu
from api.services.workers import pulse

FILE = Path(preset.__file__).with_name("presets.toml")


@cache
def presets() -> tuple[Preset, ...]:
    return tuple(preset.parse(FILE.read_text()))


async def vram_gb(redis: Redis) -> float | None:
    """GiB of the GPU that trains, as its worker says, or of this machine's when it does not; None without any."""
    said = await pulse(redis, Queue.GPU)
    if said is not None and "vram_gb" in said:
        found: float | None = said["vram_gb"]
        return found
    return gpu.largest_vram_gb(await asyncio.to_thread(gpu.detect))
