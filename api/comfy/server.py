"""The ComfyUI of a worker: started when it is needed, and replaced when it dies, grows or must be another one."""

import asyncio
import glob
import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from api.comfy import launch
from api.comfy.client import ComfyClient
from api.comfy.errors import EngineDied
from api.comfy.instance import Instance
from api.comfy.process import free_port
from api.domain.canvas_prompt import OUR_FOLDER
from api.domain.engine import ComfyInstall, InstalledBase
from api.see_through import see_through

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Profile:
    """What a ComfyUI was started with; one folder of models, as two bases may use one name for different weights."""

    nodes: frozenset[Path]
    models_dir: Path
    light: bool


def loras_below(base_dir: Path) -> Path:
    """Where a ComfyUI with this folder finds its LoRAs, started or not."""
    return base_dir / "models" / "loras"


def outputs_below(base_dir: Path) -> Path:
    """Where a ComfyUI with this folder saves pictures."""
    return base_dir / "output"


class ComfyServer:
    """One ComfyUI on a free loopback port, with a folder of its own that no other instance may use.

    It cannot outlive the process that started it. What it prints is appended to `log_path`. One that holds more than
    `max_memory_bytes` after a job is replaced before the next one begins.
    """

    def __init__(
        self, install: ComfyInstall, base_dir: Path, log_path: Path, max_memory_bytes: int | None = None
    ) -> None:
        self._install = install
        self._base_dir = base_dir
        self._log_path = log_path
        self._max_memory_bytes = max_memory_bytes
        self._profile: _Profile | None = None
        self._instance: Instance | None = None
        self._starting: asyncio.Task[Instance] | None = None
        self._worn = False
        self._changing = asyncio.Lock()
        self._users = 0
        self._user_left = asyncio.Event()

    @property
    def lora_dir(self) -> Path:
        """Files renamed into here can be used by the next prompt."""
        return loras_below(self._base_dir)

    @property
    def running(self) -> bool:
        """False also when the process is there but has stopped answering."""
        return self._instance is not None and self._instance.alive

    @property
    def pid(self) -> int | None:
        return self._instance.process.pid if self._instance is not None and self._instance.alive else None

    @property
    def url(self) -> str | None:
        """Where it answers on this machine's loopback; None while it does not run."""
        return self._instance.client.base_url if self._instance is not None and self._instance.alive else None

    @asynccontextmanager
    async def use(self, base: InstalledBase, *, alone: bool = False, light: bool = False) -> AsyncIterator[ComfyClient]:
        """A client that can run `base`, and whose ComfyUI is not replaced meanwhile.

        `alone`: nobody else uses it meanwhile, and it has given back all memory before. `light`: it was started to do
        with as little memory as it can. Raises EngineError `comfyui_start_failed` with the end of its log. An
        EngineDied from within is raised again with what is known of the end.
        """
        wanted = _Profile(frozenset((*self._install.custom_nodes, *base.custom_nodes)), base.models_dir, light)
        try:
            async with self._alone(wanted) if alone else self._shared(wanted) as instance:
                try:
                    yield instance.client
                except EngineDied as exc:
                    raise await instance.explained(exc) from exc
        finally:
            await see_through(self._recycle_if_grown())

    async def stop(self) -> None:
        """Ends the process and everything it started; returns when they are gone. Its prompts fail with EngineDied."""
        async with self._changing:
            await self._stop()

    async def kill(self) -> None:
        """Ends the process at once, whoever uses it; it is started again when it is next needed."""
        if self._instance is not None:
            await self._instance.kill()

    def output_prefix(self, prompt_id: str) -> str:
        """`filename_prefix` for a prompt of ours. It names the attempt, so that nothing is ever answered from cache."""
        return f"{OUR_FOLDER}/{prompt_id}"

    def discard_outputs_of(self, prompt_id: str) -> None:
        """Delete whatever a prompt has written under its `output_prefix`, for one whose outcome nobody waited for."""
        folder = outputs_below(self._base_dir) / OUR_FOLDER
        for path in folder.glob(f"{glob.escape(prompt_id)}_*"):
            path.unlink(missing_ok=True)

    # ---- users ---------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _shared(self, wanted: _Profile) -> AsyncIterator[Instance]:
        async with self._changing:
            if self._profile != wanted or self._worn:
                await self._until_unused()
            instance = await self._ensure(wanted)
            self._users += 1
        try:
            yield instance
        finally:
            self._users -= 1
            self._user_left.set()

    @asynccontextmanager
    async def _alone(self, wanted: _Profile) -> AsyncIterator[Instance]:
        async with self._changing:
            await self._until_unused()
            if self._instance is not None and self._instance.alive and self._profile == wanted:
                self._worn = not await self._instance.relieve()
            yield await self._ensure(wanted)

    async def _until_unused(self) -> None:
        """Whoever uses one that is dead need not be waited for: they are being told."""
        while self.running and self._users:
            self._user_left.clear()
            await self._user_left.wait()

    async def _recycle_if_grown(self) -> None:
        """A leak must not grow until the machine dies of it."""
        instance = self._instance
        if instance is None or not instance.alive or self._max_memory_bytes is None:
            return
        held = instance.held_bytes
        if held <= self._max_memory_bytes:
            return
        log.warning("comfyui_grown", pid=instance.process.pid, held_bytes=held, max_bytes=self._max_memory_bytes)
        self._worn = True
        if self._users or self._changing.locked():
            return  # whoever uses it next waits until nobody does, and replaces it
        async with self._changing:
            if self._instance is instance and not self._users:
                await self._stop()

    # ---- starting and stopping -----------------------------------------------------------------------------------

    async def _ensure(self, wanted: _Profile) -> Instance:
        """A start goes on when the one who waits for it has gone: the next one needs it as much."""
        if self._profile == wanted and not self._worn:
            if self._starting is not None:
                return await asyncio.shield(self._starting)
            if self._instance is not None and self._instance.alive:
                return self._instance
        await self._stop()
        self._profile = wanted
        self._starting = asyncio.create_task(self._start(wanted), name="comfyui-start")
        return await asyncio.shield(self._starting)

    async def _start(self, profile: _Profile) -> Instance:
        try:
            self._instance = await self._started(profile)
            return self._instance
        finally:
            self._starting = None

    async def _started(self, profile: _Profile) -> Instance:
        search_paths = await asyncio.to_thread(self._prepare_folders, profile)
        port = free_port()
        return await Instance.start(
            launch.command(self._install, self._base_dir, search_paths, port, os.getpid(), light=profile.light),
            launch.environment(self._install, os.environ, len(os.sched_getaffinity(0))),
            self._base_dir,
            port,
            self._log_path,
            gpu=self._install.gpu,
        )

    async def _stop(self) -> None:
        if self._starting is not None:
            starting = self._starting
            starting.cancel()
            await asyncio.wait({starting})
        instance, self._instance = self._instance, None
        self._worn = False
        if instance is not None:
            await instance.end()

    def _prepare_folders(self, profile: _Profile) -> Path:
        """ComfyUI expects these folders; pictures that a dead predecessor has left belong to no attempt any more."""
        for name in ("custom_nodes", "input", "output", "user", "models/loras"):
            (self._base_dir / name).mkdir(parents=True, exist_ok=True)
        shutil.rmtree(outputs_below(self._base_dir) / OUR_FOLDER, ignore_errors=True)
        nodes_dir = self._base_dir / "masuka_nodes"
        shutil.rmtree(nodes_dir, ignore_errors=True)
        nodes_dir.mkdir()
        for node in profile.nodes:
            (nodes_dir / node.name).symlink_to(node.absolute(), target_is_directory=True)
        search_paths = self._base_dir / "extra_model_paths.yaml"
        # JSON is YAML, and knows how to quote any path.
        search_paths.write_text(json.dumps(launch.search_paths(profile.models_dir, nodes_dir)))
        return search_paths
