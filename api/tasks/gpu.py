"""What a GPU worker has besides the common resources: its ComfyUI child, and what ComfyUI finds in its folders."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import structlog
from filelock import FileLock, Timeout

from api.comfy import memory
from api.comfy.client import ComfyClient
from api.comfy.server import ComfyServer, loras_below, outputs_below
from api.domain.canvas import is_own
from api.domain.captioning import CaptionerName
from api.domain.disk import GB
from api.domain.engine import InstalledBase
from api.domain.gpu_gate import Memory, Use
from api.domain.job import Kind
from api.engines import catalogue, gpu, locate
from api.engines.captioners import CAPTIONERS
from api.engines.catalogue import Weights
from api.errors import ConfigError, EngineError, MasukaError, RetryableError, UnavailableError
from api.resources import Resources
from api.services.turns import Pending
from api.tasks.comeback import Comeback
from api.tasks.gpu_memory import measure, require_back
from api.tasks.input_folder import InputFolder
from api.tasks.lora_cache import LoraCache
from api.tasks.node_report import NodeReport

log = structlog.get_logger(__name__)

LEFTOVER_SECONDS = 30.0
"""How long a worker whose supervisor was killed may take to end before the next one gives up waiting for it."""


class GpuKit:
    """One per worker process; one worker process per data folder."""

    def __init__(self, resources: Resources) -> None:
        self.settings = resources.settings
        self.comfy_error: str | None = None
        """Why ComfyUI could not be started the last time, until it can."""
        self._comfy_dir = self.settings.masuka_data_dir / "comfyui"
        self.loras = LoraCache(
            resources.storage, loras_below(self._comfy_dir), int(self.settings.masuka_lora_cache_gb * GB)
        )
        self.nodes = NodeReport(resources.sessions)
        self.inputs = InputFolder(resources.storage, self._comfy_dir / "input")
        self._comfy: ComfyServer | None = None
        self._client: ComfyClient | None = None
        """Of the ComfyUI that was last used."""
        self._drawing = 0
        """How many pictures use ComfyUI now."""
        self.handing_over = asyncio.Lock()
        """Held by whoever gives ComfyUI a prompt: what goes out at the same time arrives in any order."""
        self.comeback = Comeback(self._comfy_for, self.memory)

    def base(self, name: str) -> InstalledBase:
        return locate.base_model(self.settings, name)

    def comfy(self) -> ComfyServer:
        """The one ComfyUI of this worker, which starts when it is first used. Raises UnavailableError."""
        if self._comfy is None:
            log_path = self.settings.masuka_data_dir / "logs" / "comfyui.log"
            most = memory.allowed_bytes(self.settings.masuka_comfyui_max_memory_gb)
            self._comfy = ComfyServer(locate.comfyui(self.settings), self._comfy_dir, log_path, most)
        return self._comfy

    @property
    def output_dir(self) -> Path:
        """Where ComfyUI saves pictures, started or not."""
        return outputs_below(self._comfy_dir)

    @property
    def comfy_url(self) -> str | None:
        """Where the ComfyUI that runs answers on loopback."""
        return None if self._comfy is None else self._comfy.url

    @asynccontextmanager
    async def use_comfy(
        self, base: InstalledBase, *, alone: bool = False, light: bool = False
    ) -> AsyncIterator[ComfyClient]:
        """ComfyUI ready for `base`, as `ComfyServer.use` has it.

        Raises RetryableError `comfyui_start_failed`, which `/ready` then tells of, too.
        """
        await self.comeback.give_up()  # it may be for another base model, and a start goes on without it
        async with self._comfy_for(base, alone=alone, light=light) as client:
            yield client

    @asynccontextmanager
    async def _comfy_for(
        self, base: InstalledBase, *, alone: bool = False, light: bool = False
    ) -> AsyncIterator[ComfyClient]:
        async with AsyncExitStack() as stack:
            try:
                client = await stack.enter_async_context(self.comfy().use(base, alone=alone, light=light))
            except EngineError as exc:
                self.comfy_error = exc.detail
                raise RetryableError(exc.detail, code=exc.code, hint=exc.hint) from exc
            self.comfy_error = None
            self._client = client
            await self.nodes.take(client)
            if alone:
                await end_canvas_prompts(client)
            self._drawing += 1
            try:
                yield client
            finally:
                self._drawing -= 1

    # ---- memory ------------------------------------------------------------------------------------------------------

    async def survey(self, job: Pending, base_model: str | None) -> Use:
        """What this job needs, and how much memory there is; for a GPU that pictures share with a training.

        Of a base model that is gone it needs nothing: its own attempt will say so.
        """
        need_gb = 0.0
        with suppress(MasukaError):
            need_gb = 0.0 if base_model is None else await asyncio.to_thread(self._need_gb, job.kind, base_model)
        return Use(job.id, job.kind, need_gb, await self.memory())

    async def memory(self) -> Memory:
        if self._comfy is None or not self._comfy.running:
            return await measure(None, None)
        return await measure(self._comfy.pid, self._client)

    def _need_gb(self, kind: Kind, base_model: str) -> float:
        """`base_model`: for captions, the captioner."""
        if kind is Kind.CAPTION:
            return CAPTIONERS[CaptionerName(base_model)].need_gb(gpu=gpu.free_vram_gb() is not None)
        known = catalogue.get(base_model)
        if kind is Kind.TRAINING:
            return known.training_gb(gpu.largest_vram_gb(gpu.detect()))
        return known.drawing_gb(Weights.FP8 if self.base(base_model).weight_dtype != "default" else Weights.BF16)

    async def yield_gpu(self, base_model: str, kind: Kind = Kind.TRAINING) -> None:
        """Give a training its memory, or a captioner: only the end of ComfyUI's process gives all of it back for sure.

        A ComfyUI that shares the GPU goes on when there is enough for both; it always does while it draws, as the
        training was let in beside those pictures. Raises RetryableError `gpu_memory_not_freed`.
        """
        owed = await self.comeback.give_up()
        if self._comfy is None:
            return
        before = await self.memory()
        if self.settings.shares_gpu:
            need_gb = await asyncio.to_thread(self._need_gb, kind, base_model)
            if self._drawing or before.fits(need_gb):
                if self._client is not None and self._comfy.running:
                    await end_canvas_prompts(self._client)
                return
        if owed or self._comfy.running:
            self.comeback.owe()
        await self._comfy.stop()
        await require_back(before)

    async def stop_idle_comfy(self) -> None:
        """End a ComfyUI that was started for nobody's job and shares the GPU with none."""
        if self._comfy is not None and not self._drawing and not self.settings.shares_gpu:
            await self._comfy.stop()

    def state(self) -> dict[str, Any]:
        """For the worker's pulse; it looks into the installed models' folders, so call it in a thread."""
        return {
            "comfyui": self._comfy_state(),
            "comfyui_error": self.comfy_error,
            "bases": locate.installed_bases(self.settings),
            "captioners": locate.installed_captioners(self.settings),
            "files": locate.model_files(self.settings),
            "vram_gb": self._vram_gb,
            "trainer": self._trainer_version(),
        }

    @cached_property
    def _vram_gb(self) -> float | None:
        return gpu.largest_vram_gb(gpu.detect())

    def _trainer_version(self) -> str | None:
        with suppress(UnavailableError):
            return locate.simpletuner(self.settings).version
        return None

    def _comfy_state(self) -> str:
        if self.comfy_error is not None:
            return "failed"
        if self._comfy is not None:
            return "running" if self._comfy.running else "asleep"
        try:
            locate.comfyui(self.settings)
        except MasukaError:
            return "not installed"
        return "asleep"

    async def close(self) -> None:
        await self.comeback.give_up()
        if self._comfy is not None:
            await self._comfy.stop()


async def end_canvas_prompts(client: ComfyClient) -> None:
    """What is drawn by hand gives way to a job that counts on the memory."""
    try:
        await client.end_prompts(is_own)
    except EngineError as exc:
        log.warning("canvas_prompts_not_ended", error=exc.detail)


@asynccontextmanager
async def open_gpu(resources: Resources) -> AsyncIterator[GpuKit]:
    """The kit, for the one GPU worker of this data folder. Raises ConfigError when there is another."""
    lock = FileLock(resources.settings.masuka_data_dir / "worker-gpu.lock", thread_local=False)
    try:
        await asyncio.to_thread(lock.acquire, timeout=LEFTOVER_SECONDS)
    except Timeout as exc:
        raise ConfigError(
            "Another GPU worker uses this data folder.",
            code="worker_running",
            value=str(resources.settings.masuka_data_dir),
            hint="Stop it, or give this one a data folder of its own with MASUKA_DATA_DIR.",
        ) from exc
    kit = GpuKit(resources)
    kit.loras.sweep()
    try:
        yield kit
    finally:
        await kit.close()
        lock.release()
