"""The least that gets a picture out of ComfyUI: what a service in between is measured against.

One long-lived websocket, `POST /prompt`, wait for `executing` with no node, `GET /history`, `GET /view`; nothing is
stored, nothing is checked, and whatever goes wrong ends it.
"""

import copy
import io
import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import websockets
from PIL import Image

from api.domain.graph import Graph

SAMPLER, SAVE = "KSampler", "SaveImage"


class RawClient:
    def __init__(self, http: httpx.AsyncClient, socket: websockets.ClientConnection, client_id: str) -> None:
        self._http = http
        self._socket = socket
        self._client_id = client_id

    async def draw(self, graph: Graph) -> bytes:
        prompt_id = await self.queue(graph)
        await self.ended(prompt_id)
        return await self.fetch(prompt_id)

    async def queue(self, graph: Graph) -> str:
        """The prompt's id."""
        answer = await self._http.post("/prompt", json={"prompt": graph, "client_id": self._client_id})
        answer.raise_for_status()
        return str(answer.json()["prompt_id"])

    async def ended(self, prompt_id: str) -> None:
        """For prompts that are awaited in their order."""
        async for message in self._socket:
            if isinstance(message, str):
                data = json.loads(message)
                about = data.get("data", {})
                if data["type"] == "executing" and about["node"] is None and about.get("prompt_id") == prompt_id:
                    return

    async def fetch(self, prompt_id: str) -> bytes:
        history = (await self._http.get(f"/history/{prompt_id}")).json()[prompt_id]
        (image,) = next(found["images"] for found in history["outputs"].values() if "images" in found)
        view = {name: image[name] for name in ("filename", "subfolder", "type")}
        return (await self._http.get("/view", params=view)).content


@asynccontextmanager
async def raw_client(url: str) -> AsyncIterator[RawClient]:
    client_id = uuid.uuid4().hex
    socket_url = f"{url.replace('http', 'ws', 1)}/ws?clientId={client_id}"
    async with (
        httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as http,
        websockets.connect(socket_url, max_size=None, proxy=None) as socket,
    ):
        yield RawClient(http, socket, client_id)


def graph_in(picture: bytes) -> Graph:
    """The graph that a picture was drawn with."""
    with Image.open(io.BytesIO(picture)) as image:
        graph: Graph = json.loads(image.info["prompt"])
        return graph


def with_seed(graph: Graph, seed: int) -> Graph:
    """The same for another picture, under a name of its own."""
    changed = copy.deepcopy(graph)
    for node in changed.values():
        inputs: dict[str, Any] = node["inputs"]
        if node["class_type"] == SAMPLER:
            inputs["seed"] = seed
        elif node["class_type"] == SAVE:
            inputs["filename_prefix"] = f"raw/{seed}"
    return changed
