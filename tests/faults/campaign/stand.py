"""The service under test: `masuka up` on a folder and a port of its own, started again whenever it ended."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil
from pydantic import SecretStr

from api.bind import base_url, free_port
from api.child import end_with
from api.settings import PROJECT_ROOT, Settings
from api.trainer import process as trainers
from api.trainer.workdir import Workdir
from tests.up_process import COMMANDS, environment, is_gone
from tests.waiting import FOR_EVER, until

READY_SECONDS = 120.0
STOP_SECONDS = 60.0
AGAIN_SECONDS = 0.5
COMFY_NODE = Path(__file__).with_name("comfy_node")
SITE = Path(__file__).with_name("site")


class ServiceDownError(Exception):
    """The service did not come up in time."""


class Stand:
    """One data folder; processes come and go."""

    def __init__(self, settings: Settings, values: Mapping[str, Any]) -> None:
        """`values` are the fields of `settings` besides the folders."""
        self.settings = settings
        self.data_dir = settings.masuka_data_dir
        self.disk_full = self.data_dir.parent / "disk-full"
        self.port = free_port("127.0.0.1")
        self.url = base_url("127.0.0.1", self.port)
        ours = {
            "MASUKA_PORT": str(self.port),
            "PYTHONPATH": str(SITE),
            "MASUKA_FAULTS_DISK_FULL": str(self.disk_full),
        }
        self._env = environment(settings, **ours, **{name.upper(): _plain(value) for name, value in values.items()})
        self._process: subprocess.Popen[bytes] | None = None
        self._kept_up: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it, keep it up as an init system would, and return when it is ready. Raises ServiceDownError."""
        custom_nodes = self.data_dir / "comfyui" / "custom_nodes"
        custom_nodes.mkdir(parents=True, exist_ok=True)
        if not (custom_nodes / COMFY_NODE.name).exists():
            shutil.copytree(COMFY_NODE, custom_nodes / COMFY_NODE.name)
        self._kept_up = asyncio.create_task(self._keep_up(), name="init-system")
        deadline = time.monotonic() + READY_SECONDS
        async with httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=5) as http:
            while not await _is_ready(http):
                if time.monotonic() > deadline:
                    raise ServiceDownError(self.log_tail())
                await asyncio.sleep(0.1)

    async def stop(self) -> int:
        """SIGTERM, as a user ends it; the exit code. Raises TimeoutExpired."""
        assert self._process is not None
        await self._leave()
        self._process.terminate()
        return await asyncio.to_thread(self._process.wait, STOP_SECONDS)

    async def kill(self) -> None:
        """Whatever happened: nothing of it lives on."""
        await self._leave()
        for process in self.processes():
            if not is_gone(process):
                process.kill()
        if self._process is not None:
            await asyncio.to_thread(self._process.wait)

    async def _leave(self) -> None:
        if self._kept_up is not None:
            self._kept_up.cancel()
            await asyncio.wait({self._kept_up})

    async def _keep_up(self) -> None:
        while True:
            started = self._process = self._start()
            await until(lambda: started.poll() is not None, FOR_EVER, every=0.1)  # noqa: B023 - awaited before the next turn
            await asyncio.sleep(AGAIN_SECONDS)

    def _start(self) -> subprocess.Popen[bytes]:
        parent = os.getpid()
        with (self.data_dir.parent / "up.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "api.cli", "up"],
                cwd=PROJECT_ROOT,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=lambda: end_with(parent),
            )

    # ---- its processes -----------------------------------------------------------------------------------------------

    def supervisor(self) -> psutil.Process | None:
        return _alive(None if self._process is None else self._process.pid)

    def child(self, name: str) -> psutil.Process | None:
        """A child of the supervisor; None between its death and its restart."""
        return self._below(self.supervisor(), COMMANDS[name])

    def comfyui(self) -> psutil.Process | None:
        return self._below(self.child("worker-gpu"), "--extra-model-paths-config")

    def comfyui_url(self) -> str | None:
        """Of the one that runs and has begun to listen, or soon will."""
        found = self.comfyui()
        if found is None:
            return None
        words = found.cmdline()
        return f"http://127.0.0.1:{words[words.index('--port') + 1]}"

    def runner(self) -> psutil.Process | None:
        return _alive(None if (run := self._run()) is None else run.pid)

    def trainer(self) -> psutil.Process | None:
        return _alive(None if (run := self._run()) is None else run.trainer_pid)

    def _run(self) -> trainers.RunnerHandle | None:
        for folder in (self.data_dir / "training").glob("*"):
            try:
                found = trainers.find(Workdir(folder))
            except json.JSONDecodeError:
                continue
            if found is not None:
                return found
        return None

    @staticmethod
    def _below(parent: psutil.Process | None, words: str) -> psutil.Process | None:
        try:
            for process in parent.children() if parent is not None else ():
                if words in " ".join(process.cmdline()):
                    return process
        except psutil.Error:
            return None
        return None

    def processes(self) -> list[psutil.Process]:
        """Everything that works in, or was told of, the data folder, whoever its parent is."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        folder = str(self.data_dir)
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            return (
                process.environ().get("MASUKA_DATA_DIR") == folder
                or process.cwd().startswith(folder)
                or any(folder in word for word in process.cmdline())
            )
        except psutil.Error:
            return False

    def log_tail(self) -> str:
        path = self.data_dir.parent / "up.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-30:])


async def _is_ready(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/ready")).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _plain(value: str | SecretStr) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _alive(pid: int | None) -> psutil.Process | None:
    try:
        found = None if pid is None else psutil.Process(pid)
        return None if found is None or is_gone(found) else found
    except psutil.NoSuchProcess:
        return None
