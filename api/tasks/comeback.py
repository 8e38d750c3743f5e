"""ComfyUI back after a training that it gave way to: it starts while the trainer ends, before a picture asks for it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager

import structlog

from api.comfy.client import ComfyClient
from api.db import DATABASE_ERRORS
from api.domain.engine import InstalledBase
from api.domain.gpu_gate import Memory
from api.errors import MasukaError
from api.memory import available_bytes
from api.tasks.gpu_memory import GIB

log = structlog.get_logger(__name__)

START_GB = 1.0
"""What a ComfyUI takes that has loaded no model yet: of the GPU its context, of the machine what it imports."""
PATIENCE_SECONDS = 30.0
"""How long a trainer that is through may hold its memory; after that the first picture starts ComfyUI."""
LOOK_SECONDS = 0.25


class Comeback:
    """At most one is owed or under way. One that fails is told by the first picture, which tries again."""

    def __init__(
        self,
        use: Callable[[InstalledBase], AbstractAsyncContextManager[ComfyClient]],
        memory: Callable[[], Awaitable[Memory]],
    ) -> None:
        self._use = use
        self._memory = memory
        self._owed = False
        self._task: asyncio.Task[None] | None = None

    def owe(self) -> None:
        """ComfyUI ends now, for a training."""
        self._owed = True

    def begin(self, base: InstalledBase) -> None:
        """The trainer has said its last word, and its LoRA is for `base`."""
        if self._owed:
            self._owed = False
            self._task = asyncio.create_task(self._start(base), name="comfyui-comeback")

    async def give_up(self) -> bool:
        """Somebody else needs ComfyUI, or its memory, first; whether it was owed or under way."""
        owed, self._owed = self._owed, False
        if self._task is None or self._task.done():
            return owed
        self._task.cancel()
        await asyncio.wait({self._task})
        return True

    async def _start(self, base: InstalledBase) -> None:
        if not await self._room():
            log.info("comfyui_not_back_after_training", error="the memory is still taken")
            return
        try:
            async with self._use(base):
                log.info("comfyui_back_after_training", base_model=base.name)
        except (MasukaError, *DATABASE_ERRORS) as exc:
            log.warning("comfyui_not_back_after_training", error=str(exc))

    async def _room(self) -> bool:
        """Whether there is memory for it, on the GPU and in the machine, before patience ends."""
        for _ in range(round(PATIENCE_SECONDS / LOOK_SECONDS)):
            machine = Memory(available_bytes() / GIB)
            if machine.fits(START_GB) and (await self._memory()).fits(START_GB):
                return True
            await asyncio.sleep(LOOK_SECONDS)
        return False
