"""The GPU worker's side of the canvas: ComfyUI started when it is opened, and the LoRAs that a prompt names."""

import asyncio
import time

import structlog
from redis.exceptions import RedisError

from api.db import DATABASE_ERRORS
from api.domain.canvas import CanvasState
from api.engines import locate
from api.errors import MasukaError
from api.resources import Resources
from api.services import bases, canvas, canvas_calls, workflows
from api.services.canvas_calls import Call, Reply
from api.tasks.gpu import GpuKit

log = structlog.get_logger(__name__)

RECONNECT_SECONDS = 1.0
PATIENCE_SECONDS = 1.0
"""How long a reply waits for a start that may be about to end."""
AGAIN_SECONDS = 30.0
"""Between two starts of a ComfyUI that fails to start, however often it is asked for."""


async def serve_canvas_forever(kit: GpuKit, resources: Resources) -> None:
    """Answer every call, several at once: one may have to wait for a large file."""
    host = CanvasHost(kit, resources)
    try:
        async with asyncio.TaskGroup() as group:
            while True:
                if (call := await _take(resources)) is not None:
                    group.create_task(host.answer(call))
    finally:
        host.close()


async def _take(resources: Resources) -> Call | None:
    try:
        return await canvas_calls.take(resources.redis)
    except (RedisError, OSError) as exc:
        log.warning("canvas_calls_interrupted", error=str(exc))
        await asyncio.sleep(RECONNECT_SECONDS)
        return None


class CanvasHost:
    """Starts ComfyUI for the canvas, which never holds it: jobs replace, stop and restart it as they need."""

    def __init__(self, kit: GpuKit, resources: Resources) -> None:
        self._kit = kit
        self._resources = resources
        self._starting: asyncio.Task[None] | None = None
        self._failed_at = 0.0

    def close(self) -> None:
        if self._starting is not None:
            self._starting.cancel()

    async def answer(self, call: Call) -> None:
        reply = await self.reply(call)
        try:
            await canvas_calls.answer(self._resources.redis, call, reply)
        except (RedisError, OSError) as exc:
            log.warning("canvas_call_not_answered", error=str(exc))

    async def reply(self, call: Call) -> Reply:
        try:
            if self._kit.comfy_url is None and (state := await self._wake()) is not None:
                return Reply(state)
            await self._provide(call.loras)
        except MasukaError as exc:
            return Reply(CanvasState.FAILED, code=exc.code, detail=exc.detail, hint=exc.hint)
        except DATABASE_ERRORS as exc:
            log.warning("canvas_call_failed", error=str(exc))  # it quotes statements: nothing for a client
            return Reply(CanvasState.FAILED, code="database_unavailable", detail="The database does not answer.")
        except Exception:  # the last line of defence: a bug here must not end the worker
            log.exception("canvas_call_crashed")
            said = "MASUKA itself failed to open the canvas; the GPU worker's log has the details."
            return Reply(CanvasState.FAILED, code="internal_error", detail=said)
        url = self._kit.comfy_url
        return Reply(CanvasState.RUNNING if url else CanvasState.STARTING, url)

    async def _wake(self) -> CanvasState | None:
        """Start it; None when it runs. Raises MasukaError when it cannot be started."""
        if await self._training_runs():
            return CanvasState.TRAINING
        if self._starting is None:
            if time.monotonic() - self._failed_at < AGAIN_SECONDS and self._kit.comfy_error:
                raise MasukaError(self._kit.comfy_error, code="comfyui_start_failed", hint="It is tried again soon.")
            self._starting = asyncio.create_task(self._start(), name="canvas-start")
        starting = self._starting
        await asyncio.wait({starting}, timeout=PATIENCE_SECONDS)
        if not starting.done():
            return CanvasState.STARTING
        self._starting = None
        if (error := starting.exception()) is not None:
            self._failed_at = time.monotonic()
            raise error
        return None

    async def _start(self) -> None:
        installed = await asyncio.to_thread(locate.installed_bases, self._resources.settings)
        name = bases.for_canvas(self._resources.settings, installed)
        async with self._kit.use_comfy(self._kit.base(name)):
            log.info("comfyui_started_for_canvas", base_model=name)
        if await self._training_runs():  # it was claimed meanwhile, and may have stopped an earlier ComfyUI only
            await self._kit.stop_idle_comfy()

    async def _training_runs(self) -> bool:
        async with self._resources.sessions() as session:
            return await canvas.training_runs(session)

    async def _provide(self, names: tuple[str, ...]) -> None:
        """Have those of the library in ComfyUI's folder; others are the owner's own files. Raises MasukaError."""
        async with self._resources.sessions() as session:
            models = await workflows.named_loras(session, set(names))
        for model in models.values():
            await self._kit.loras.provide(model.storage_path, model.model_metadata["sha256"])
