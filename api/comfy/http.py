"""ComfyUI's HTTP interface, one method per route that MASUKA uses; foreign errors become ours here and nowhere else."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import httpx

from api.comfy.errors import EngineDied, EngineSilent, rejection
from api.comfy.history import Outcome, Output, Queue, parse_history, parse_queue
from api.errors import EngineError

# ComfyUI serves HTTP from the process that computes, so an answer may have to wait for a long step.
TIMEOUT_SECONDS = 10.0
# Nothing that ComfyUI does holds its answers up for long: torch lets other threads run while it reads weights from a
# slow disk. A machine that swaps is another matter.
SILENT_LIMIT_SECONDS = 60.0
_CHUNK_BYTES = 1024 * 1024
_BROKEN = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class MemoryStats:
    """Bytes, of the host and of the device that ComfyUI computes on; without a GPU both are the host's."""

    device: str
    ram_total: int
    ram_free: int
    vram_total: int
    vram_free: int
    vram_held: int = 0
    """By ComfyUI itself."""


class ComfyHttp:
    """Thin and stateless but for one fact: `gone`, that the process behind it is of no use any more.

    It is when it has ended, and when it has not answered anybody for a minute. Every method raises EngineDied when
    nobody listens, EngineSilent when there is no answer in time, and EngineError `comfyui_error` for an answer that
    makes no sense.
    """

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.gone = False
        # trust_env: a proxy in the environment must not come between us and loopback.
        self._http = httpx.AsyncClient(
            base_url=base_url,
            timeout=TIMEOUT_SECONDS,
            trust_env=False,
            event_hooks={"response": [self._hear]},
        )
        self._silent_since: float | None = None

    async def aclose(self) -> None:
        await self._http.aclose()

    async def queue(self) -> Queue:
        return await self._get("/queue", parse_queue)

    async def outcome(self, prompt_id: str) -> Outcome | None:
        """How a prompt ended; None while it has not, and for one that ComfyUI does not know."""
        return await self._get(f"/history/{prompt_id}", lambda body: parse_history(body, prompt_id))

    async def object_info(self) -> dict[str, Any]:
        """Every node class with its inputs, types, defaults and limits."""
        return await self._get("/object_info", dict[str, Any])

    async def memory(self) -> MemoryStats:
        return await self._get("/system_stats", _parse_memory)

    async def free(self) -> None:
        """Ask to unload all models; ComfyUI does it once it is idle, so watch `memory` for the effect."""
        await self._post("/free", {"unload_models": True, "free_memory": True})

    async def delete_history(self, prompt_id: str) -> None:
        await self._post("/history", {"delete": [prompt_id]})

    async def download(self, output: Output, destination: Path) -> int:
        """Fetch an output file; return its size in bytes. Raises EngineError `output_missing`.

        A ComfyUI that falls silent meanwhile is waited for, as the picture is there already. On failure `destination`
        may hold a part of it.
        """
        while True:
            try:
                return await self._download(output, destination)
            except EngineSilent:
                if self.gone:
                    raise

    async def _download(self, output: Output, destination: Path) -> int:
        params = {"filename": output.filename, "subfolder": output.subfolder, "type": "output"}
        async with self._translated(), self._http.stream("GET", "/view", params=params) as response:
            if response.status_code == httpx.codes.NOT_FOUND:
                # Seen when a workflow with nothing new in it is answered from ComfyUI's cache.
                raise EngineError("ComfyUI no longer has the picture.", code="output_missing", value=output.filename)
            _require_ok(response)
            # Opened and closed within each step: a cancel in between would leave an open file to nobody.
            await asyncio.to_thread(destination.write_bytes, b"")
            async for chunk in response.aiter_bytes(_CHUNK_BYTES):
                await asyncio.to_thread(_append, destination, chunk)
            return response.num_bytes_downloaded

    async def _post_prompt(
        self, graph: Mapping[str, Any], prompt_id: str, client_id: str, extra_data: Mapping[str, Any]
    ) -> None:
        """Queue a graph.

        Raises PromptRejected; ComfyUI may then still have queued the outputs it did not refuse. Raises EngineSilent
        when it is unknown whether the graph has arrived.
        """
        body = {"prompt": graph, "prompt_id": prompt_id, "client_id": client_id, "extra_data": extra_data}
        async with self._translated():
            try:
                response = await self._http.post("/prompt", json=body)
            except _BROKEN as exc:
                raise EngineSilent("The connection broke before ComfyUI had answered.") from exc
            if response.status_code != httpx.codes.BAD_REQUEST:
                _require_ok(response)
            answer = response.json()
        if response.status_code == httpx.codes.BAD_REQUEST or answer["node_errors"]:
            raise rejection(answer)

    async def _delete_pending(self, prompt_id: str) -> None:
        """No effect on a prompt that runs."""
        await self._post("/queue", {"delete": [prompt_id]})

    async def _interrupt_running(self, prompt_id: str) -> None:
        """No effect on a prompt that does not run; without an id ComfyUI would stop whatever runs."""
        await self._post("/interrupt", {"prompt_id": prompt_id})

    async def _get(self, path: str, parse: Callable[[dict[str, Any]], T]) -> T:
        async with self._translated():
            return parse((await self._send("GET", path)).json())

    async def _post(self, path: str, body: Mapping[str, Any]) -> None:
        async with self._translated():
            await self._send("POST", path, body)

    async def _send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        """For requests that may be made twice."""
        try:
            response = await self._http.request(method, path, json=body)
        except _BROKEN:
            # One connection is gone; whether the process is too, a new connection shows.
            self._require_open()
            response = await self._http.request(method, path, json=body)
        _require_ok(response)
        return response

    def _require_open(self) -> None:
        if self._http.is_closed:
            raise EngineDied("ComfyUI has been stopped.")

    async def _hear(self, _: httpx.Response) -> None:
        self._silent_since = None

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        self._require_open()
        asked_at = monotonic()
        try:
            yield
        except httpx.TimeoutException as exc:
            self._silent_since = self._silent_since or asked_at
            self.gone = self.gone or monotonic() - self._silent_since >= SILENT_LIMIT_SECONDS
            raise EngineSilent(f"ComfyUI has not answered within {TIMEOUT_SECONDS:.0f} s.") from exc
        except httpx.TransportError as exc:
            self.gone = True
            raise EngineDied(hint="Its log says why; it is started again when it is next needed.") from exc
        except (ValueError, LookupError, TypeError, AttributeError) as exc:
            raise EngineError("ComfyUI's answer makes no sense.", code="comfyui_error") from exc


def _parse_memory(stats: Mapping[str, Any]) -> MemoryStats:
    device, system = stats["devices"][0], stats["system"]
    return MemoryStats(
        device["name"],
        system["ram_total"],
        system["ram_free"],
        device["vram_total"],
        device["vram_free"],
        device["torch_vram_total"],
    )


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def _require_ok(response: httpx.Response) -> None:
    if not response.is_success:
        raise EngineError(
            f"ComfyUI answered {response.status_code} to {response.request.method} {response.request.url.path}.",
            code="comfyui_error",
            value=response.status_code,
        )
