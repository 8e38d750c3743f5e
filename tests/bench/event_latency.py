"""From the moment in which ComfyUI tells a sampling step until a client has it as a server-sent event."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.bench.figures import P99_NEEDS, Fact, Result, Series
from tests.bench.stand import PROMPT, SMALL, Stand, service

CLIENTS, QUICK_CLIENTS = (1, 500, 1000), (1, 20)
P99_MILLISECONDS = {1: 50, 500: 150}
PICTURES, QUICK_PICTURES = {1: 120, 500: 10, 1000: 10}, 1
IN_FRONT, QUICK_IN_FRONT = {1: 1, 500: 6, 1000: 12}, 1
"""Pictures that are drawn while the clients come, for it is the steps that are measured, and not the coming."""
SLOW: dict[str, Any] = {"base_model": "flux-tiny", "width": 256, "height": 256, "num_inference_steps": 20}
"""Steps that come about as often as those of a real model."""


@dataclass
class Listeners:
    """Many clients of one stream, who note when each step reached them."""

    heard: list[tuple[int, float]] = field(default_factory=list)
    """(step, time)"""
    completed: int = 0
    """Streams that came to the picture's end."""
    late: int = 0
    """Clients that came when it was being drawn already."""

    async def listen(self, url: str, asset_id: str) -> None:
        """As cheaply as can be, for the clients share the machine with what is measured."""
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            path = f"/api/progress/stream/{asset_id}"
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
            assert b" 200 " in await reader.readline()
            snapshot: dict[str, Any] = {}
            while line := await reader.readline():
                if line.startswith(b"data:"):
                    at, first = time.monotonic(), not snapshot
                    snapshot = json.loads(line[5:])
                    if snapshot.get("stage") != "sampling":
                        continue
                    if first:  # a stream begins with the present state, whose step was told before
                        self.late += 1
                    else:
                        self.heard.append((snapshot["step"], at))
            self.completed += snapshot.get("status") == "completed"
        finally:
            writer.close()


async def run(folder: Path, quick: bool) -> Result:
    series, facts = [], []
    async with service(folder) as stand:
        await stand.draw_patiently()
        for clients in QUICK_CLIENTS if quick else CLIENTS:
            pictures = QUICK_PICTURES if quick else PICTURES[clients]
            found: list[float] = []
            whole = late = steps = 0
            for _ in range(pictures):
                latencies, listeners = await _picture(stand, clients, QUICK_IN_FRONT if quick else IN_FRONT[clients])
                found += latencies
                whole += listeners.completed
                late += listeners.late
                steps += len({step for step, _ in listeners.heard})
            one = Series(f"step until heard, {clients} clients", "ms", tuple(found))
            series.append(one)
            facts += [
                Fact(f"streams that came to their end, {clients} clients", "", whole, at_least=clients * pictures),
                Fact(f"clients that came when it was drawn, {clients} clients", "", late),
                Fact(f"steps that were told, {clients} clients", f"of {pictures * SLOW['num_inference_steps']}", steps),
            ]
            if len(found) >= P99_NEEDS:
                most = P99_MILLISECONDS.get(clients)
                facts.append(Fact(f"p99, {clients} clients", "ms", one.quantile(0.99), at_most=most))
    return Result(series, facts, SLOW)


async def _picture(stand: Stand, clients: int, in_front: int) -> tuple[list[float], Listeners]:
    """Milliseconds, of every step that reached a client."""
    for _ in range(in_front):
        front = SMALL if clients == 1 else SLOW
        await stand.post("/api/generate/image", {**front, "prompt": PROMPT, "seed": stand.seed()})
    started = await stand.post("/api/generate/image", {**SLOW, "prompt": PROMPT, "seed": stand.seed()})
    listeners = Listeners()
    seen = len(stand.events())
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(listeners.listen(str(stand.http.base_url), started["asset_id"]))
    told = _told(stand, started["asset_id"], seen)
    return [1000 * (at - told[step]) for step, at in listeners.heard if step in told], listeners


def _told(stand: Stand, asset_id: str, seen: int) -> dict[int, float]:
    """When ComfyUI told which step of the newest prompt."""
    events = [event for event in stand.events()[seen:] if event.event == "progress" and event.value is not None]
    newest = events[-1].prompt_id if events else asset_id
    return {event.value: event.at for event in events if event.prompt_id == newest and event.value is not None}
