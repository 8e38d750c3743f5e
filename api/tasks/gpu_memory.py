"""How much memory the engines have to share: the GPU's, or the machine's where there is no GPU."""

import asyncio

import structlog

from api.comfy.client import ComfyClient
from api.comfy.memory import held_bytes
from api.domain.gpu_gate import Memory
from api.engines import gpu
from api.errors import EngineError, RetryableError
from api.memory import available_bytes

log = structlog.get_logger(__name__)

GIB = 1024**3
ANSWER_SECONDS = 2.0
"""How long a ComfyUI that is busy is waited for."""
BACK_SECONDS = 15.0
BACK_PART = 0.9
"""Of what ComfyUI held: it is not the only one that allocates, and the driver rounds."""
POLL_SECONDS = 0.25


async def measure(pid: int | None, client: ComfyClient | None) -> Memory:
    """`pid` and `client` are those of the ComfyUI that runs."""
    free_vram_gb = await asyncio.to_thread(gpu.free_vram_gb)
    if free_vram_gb is None:
        held = 0 if pid is None else held_bytes(pid)
        return Memory(available_bytes() / GIB, held / GIB)
    return Memory(free_vram_gb, await _held_gb(client))


async def _held_gb(client: ComfyClient | None) -> float:
    """0 for a ComfyUI that does not answer: then it counts as another's memory, and less is promised."""
    if client is None:
        return 0.0
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return (await client.memory()).vram_held / GIB
    except (EngineError, TimeoutError) as exc:
        log.warning("comfyui_memory_unknown", error=str(exc))
        return 0.0


async def require_back(before: Memory) -> None:
    """Until what ComfyUI held `before` its end is free again: the driver may take a moment.

    Without a GPU the end of the process is the proof. Raises RetryableError `gpu_memory_not_freed`.
    """
    wanted_gb, free_gb = before.free_gb + BACK_PART * before.pictures_gb, 0.0
    for _ in range(round(BACK_SECONDS / POLL_SECONDS)):
        found = await asyncio.to_thread(gpu.free_vram_gb)
        if found is None or found >= wanted_gb:
            return
        free_gb = found
        await asyncio.sleep(POLL_SECONDS)
    raise RetryableError(
        f"ComfyUI has ended, but only {free_gb:.1f} GB of the GPU are free instead of {wanted_gb:.1f} GB.",
        code="gpu_memory_not_freed",
        value=round(free_gb, 1),
        hint="Another process has taken it: see nvidia-smi.",
    )
