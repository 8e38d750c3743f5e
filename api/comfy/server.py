"""The ComfyUI child process: started for the first prompt, kept, and replaced when it dies or another base needs it."""

import asyncio
import glob
import json
import os
import shutil
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import structlog

from api.comfy import launch
from api.comfy.client import ComfyClient
from api.comfy.history import Output
from api.comfy.log import ChildLog
from api.comfy.process import accepts, describe_exit, end_group, free_port
from api.domain.engine import ComfyInstall, InstalledBase
from api.errors import EngineError

log = structlog.get_logger(__name__)

# Loading torch from a cold disk takes minutes on small machines; a process that has ended is noticed at once.
_START_LIMIT_SECONDS = 600.0
_POLL_SECONDS = 0.05
_LAST_WORDS_SECONDS = 1.0
_READ_BYTES = 65536
_OUR_OUTPUT = "masuka"


@dataclass(frozen=True, slots=True)
class _Profile:
    """What a child was started with; one folder of models, as two bases may use one name for different weights."""

    nodes: frozenset[Path]
    models_dir: Path


def loras_below(base_dir: Path) -> Path:
    """Where a ComfyUI with this folder finds its LoRAs, started or not."""
    return base_dir / "models" / "loras"


class ComfyServer:
    """One ComfyUI on a free loopback port, with a folder of its own that no other instance may use.

    It cannot outlive the process that started it. What it prints is appended to `log_path`.
    """

    def __init__(self, install: ComfyInstall, base_dir: Path, log_path: Path) -> None:
        self._install = install
        self._base_dir = base_dir
        self._log_path = log_path
        self._profile: _Profile | None = None
        self._process: Process | None = None
        self._client: ComfyClient | None = None
        self._log: ChildLog | None = None
        self._pump: asyncio.Task[None] | None = None
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
        process, client = self._process, self._client
        return process is not None and process.returncode is None and client is not None and not client.gone

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self.running else None

    @asynccontextmanager
    async def use(self, base: InstalledBase) -> AsyncIterator[ComfyClient]:
        """A client that can run `base`, and whose ComfyUI is not restarted for another base meanwhile.

        Raises EngineError `comfyui_start_failed` with the end of its log.
        """
        async with self._changing:
            client = await self._ensure(base)
            self._users += 1
        try:
            yield client
        finally:
            self._users -= 1
            self._user_left.set()

    async def ensure(self, base: InstalledBase) -> ComfyClient:
        """Have ComfyUI ready for `base`; it is restarted if it is dead, or serves other nodes or models."""
        async with self._changing:
            return await self._ensure(base)

    async def stop(self) -> None:
        """Ends the process and everything it started; returns when they are gone. Its prompts fail with EngineDied."""
        async with self._changing:
            await self._stop()

    async def kill(self) -> None:
        """Ends the process at once, whoever uses it; it is started again when it is next needed."""
        if self._process is not None:
            await end_group(self._process)

    def output_prefix(self, prompt_id: str) -> str:
        """`filename_prefix` for a prompt of ours. It names the attempt, so that nothing is ever answered from cache."""
        return f"{_OUR_OUTPUT}/{prompt_id}"

    def discard_output(self, output: Output) -> None:
        """Delete an output file that has been stored elsewhere; one that is gone already is no error."""
        root = (self._base_dir / "output").resolve()
        path = (root / output.subfolder / output.filename).resolve()
        if not path.is_relative_to(root):
            raise EngineError("An output lies outside ComfyUI's output folder.", code="comfyui_error", value=str(path))
        path.unlink(missing_ok=True)

    def discard_outputs_of(self, prompt_id: str) -> None:
        """Delete whatever a prompt has written under its `output_prefix`, for one whose outcome nobody waited for."""
        folder = self._base_dir / "output" / _OUR_OUTPUT
        for path in folder.glob(f"{glob.escape(prompt_id)}_*"):
            path.unlink(missing_ok=True)

    # ---- starting ------------------------------------------------------------------------------------------------

    async def _ensure(self, base: InstalledBase) -> ComfyClient:
        wanted = _Profile(frozenset((*self._install.custom_nodes, *base.custom_nodes)), base.models_dir)
        while self.running and self._profile != wanted and self._users:
            self._user_left.clear()
            await self._user_left.wait()
        if self._client is None or not self.running or self._profile != wanted:
            await self._stop()
            self._client = await self._start(wanted)
            self._profile = wanted
        return self._client

    async def _start(self, profile: _Profile) -> ComfyClient:
        started_at = monotonic()
        search_paths = await asyncio.to_thread(self._prepare_folders, profile)
        self._log = ChildLog(self._log_path)
        port = free_port()
        self._process = await asyncio.create_subprocess_exec(
            *launch.command(self._install, self._base_dir, search_paths, port, os.getpid()),
            env=launch.environment(self._install, os.environ, len(os.sched_getaffinity(0))),
            cwd=self._base_dir,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            start_new_session=True,
        )
        try:
            self._pump = asyncio.create_task(_pump(self._process, self._log), name="comfyui-log")
            await self._until_listening(self._process, port)
        except BaseException:
            await self._stop()
            raise
        log.info("comfyui_started", pid=self._process.pid, port=port, seconds=round(monotonic() - started_at, 1))
        return ComfyClient(f"http://127.0.0.1:{port}", self._log).open()

    async def _until_listening(self, process: Process, port: int) -> None:
        deadline = monotonic() + _START_LIMIT_SECONDS
        while monotonic() < deadline:
            if process.returncode is not None:
                raise await self._start_error(f"ComfyUI ended while starting ({describe_exit(process.returncode)}).")
            if await accepts(port):
                return
            await asyncio.sleep(_POLL_SECONDS)
        raise await self._start_error(f"ComfyUI was not ready after {_START_LIMIT_SECONDS:.0f} s.")

    async def _start_error(self, detail: str) -> EngineError:
        await self._last_words()
        tail = self._log.tail(10) if self._log is not None else ""
        return EngineError(
            f"{detail} It last said:\n{tail}",
            code="comfyui_start_failed",
            hint=f"Its whole log is {self._log_path.name}; `masuka install comfyui` mends an installation.",
        )

    def _prepare_folders(self, profile: _Profile) -> Path:
        """ComfyUI expects these folders; pictures that a dead predecessor has left belong to no attempt any more."""
        for name in ("custom_nodes", "input", "output", "user", "models/loras"):
            (self._base_dir / name).mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._base_dir / "output" / _OUR_OUTPUT, ignore_errors=True)
        nodes_dir = self._base_dir / "masuka_nodes"
        shutil.rmtree(nodes_dir, ignore_errors=True)
        nodes_dir.mkdir()
        for node in profile.nodes:
            (nodes_dir / node.name).symlink_to(node.absolute(), target_is_directory=True)
        search_paths = self._base_dir / "extra_model_paths.yaml"
        # JSON is YAML, and knows how to quote any path.
        search_paths.write_text(json.dumps(launch.search_paths(profile.models_dir, nodes_dir)))
        return search_paths

    # ---- stopping ------------------------------------------------------------------------------------------------

    async def _stop(self) -> None:
        process, client = self._process, self._client
        self._process = self._client = None
        if process is not None:
            await end_group(process)
        if client is not None:
            await client.aclose()
        await self._last_words()
        if self._pump is not None:
            # A process that has left the group may hold the pipe open.
            self._pump.cancel()
            self._pump = None
        if self._log is not None:
            self._log.close()

    async def _last_words(self) -> None:
        """Let what a process that has ended had printed reach the log."""
        if self._pump is not None:
            await asyncio.wait({self._pump}, timeout=_LAST_WORDS_SECONDS)


async def _pump(process: Process, child_log: ChildLog) -> None:
    """Until the last process that can write to the pipe has ended."""
    assert process.stdout is not None
    while data := await process.stdout.read(_READ_BYTES):
        child_log.feed(data)
    log.info("comfyui_ended", pid=process.pid, how=describe_exit(await process.wait()))
