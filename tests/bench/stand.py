"""The service that is measured: `masuka up` on a folder of its own, and the ComfyUI below it."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from api.settings import PROJECT_ROOT, Settings
from tests.up_process import Up, started

METER = Path(__file__).with_name("meter_node")
SMALL: dict[str, Any] = {"base_model": "flux-tiny", "width": 64, "height": 64, "num_inference_steps": 4}
PROMPT = "a red circle on a blue background"
TIMEOUT = httpx.Timeout(120)
SERVICE = ("api", "worker-cpu", "worker-gpu", "redis")


@dataclass(frozen=True, slots=True)
class Event:
    """One that ComfyUI has sent, at a time of `time.monotonic()`."""

    at: float
    event: str
    prompt_id: str
    node: str | None
    value: int | None


@dataclass
class Stand:
    up: Up
    http: httpx.AsyncClient
    events_file: Path
    names: Sequence[str] = SERVICE
    """Of its processes."""
    _seeds: int = field(default=1000)

    def seed(self) -> int:
        """One that was never used: ComfyUI answers what it has drawn before from its cache."""
        self._seeds += 1
        return self._seeds

    async def draw(self, **wishes: Any) -> bytes:
        """One picture, by one request that waits for it."""
        answer = await self._ask(wishes)
        assert _is_picture(answer), answer.text
        return answer.content

    async def draw_patiently(self, **wishes: Any) -> bytes:
        """The same, also when ComfyUI must start first or a training goes before, however long that takes."""
        answer = await self._ask(wishes)
        if not _is_picture(answer):
            asset_id = answer.json()["asset_id"]
            await self.end_of(asset_id)
            answer = await self.http.get(f"/api/assets/{asset_id}/file")
            answer.raise_for_status()
        return answer.content

    async def _ask(self, wishes: dict[str, Any]) -> httpx.Response:
        answer = await self.http.post(
            "/api/generate/image",
            params={"wait": 60},
            headers={"Accept": "image/png"},
            json={**SMALL, "prompt": PROMPT, "seed": self.seed(), **wishes},
        )
        answer.raise_for_status()
        return answer

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self.http.post(path, json=body)
        answer.raise_for_status()
        return dict(answer.json())

    async def end_of(self, any_id: str) -> None:
        """Return when this picture, batch or training has ended; raises AssertionError when it did not complete."""
        last: dict[str, Any] = {}
        async with self.http.stream("GET", f"/api/progress/stream/{any_id}", timeout=None) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data: "):
                    last = json.loads(line.removeprefix("data: "))
        assert last.get("status") == "completed", last

    def events(self) -> list[Event]:
        """All so far, in their order."""
        lines = self.events_file.read_text(encoding="utf-8").splitlines() if self.events_file.exists() else []
        return [Event(**json.loads(line)) for line in lines]

    def comfyui(self) -> psutil.Process:
        """Raises LookupError while it does not run."""
        worker = self.up.child("worker-gpu")
        for process in worker.children() if worker is not None else ():
            if "--extra-model-paths-config" in process.cmdline():
                return process
        raise LookupError("ComfyUI does not run")

    def comfyui_url(self) -> str:
        words = self.comfyui().cmdline()
        return f"http://127.0.0.1:{words[words.index('--port') + 1]}"

    def processes(self) -> dict[str, psutil.Process]:
        """Ours, by name; ComfyUI is not one of them. Raises LookupError while one is being restarted."""
        found = {name: self.up.child(name) for name in self.names}
        if missing := [name for name, process in found.items() if process is None]:
            raise LookupError(f"{', '.join(missing)} does not run")
        return {"supervisor": psutil.Process(self.up.process.pid), **{n: p for n, p in found.items() if p is not None}}


def _is_picture(answer: httpx.Response) -> bool:
    return answer.headers["content-type"] == "image/png"


def engines_dir() -> Path:
    return Path(os.environ.get("MASUKA_ENGINES_DIR") or PROJECT_ROOT / "data" / "engines").absolute()


def settings_in(folder: Path) -> Settings:
    return Settings(_env_file=None, masuka_data_dir=folder, masuka_engines_dir=engines_dir())


@asynccontextmanager
async def service(folder: Path, words: Sequence[str] = (), **env: str) -> AsyncIterator[Stand]:
    """Ready, in a new folder or one that was used before; its ComfyUI is metered."""
    nodes = folder / "comfyui" / "custom_nodes"
    if not (nodes / METER.name).exists():
        nodes.mkdir(parents=True, exist_ok=True)
        shutil.copytree(METER, nodes / METER.name)
    events = folder / "comfyui-events.jsonl"
    with started(settings_in(folder), *words, MASUKA_BENCH_EVENTS=str(events), MASUKA_LOG_LEVEL="warning", **env) as up:
        await up.ready()
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        url = f"http://127.0.0.1:{up.port}"
        async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT, trust_env=False, limits=limits) as http:
            own_redis = "REDIS_URL" not in env
            yield Stand(up, http, events, [name for name in SERVICE if own_redis or name != "redis"])
        # Its processes are given their time to end: what one benchmark leaves running would slow the next one down.
        await asyncio.to_thread(up.process.terminate)
        await asyncio.to_thread(up.process.wait, 60)
