"""Pictures of the bare ComfyUI and of MASUKA in turns, of one graph, with unused seeds: what slows one slows both."""

import time
from typing import Any

from tests.bench.raw import graph_in, raw_client, with_seed
from tests.bench.stand import Stand

WARM_UP = 3
UNTIMED = 1 + WARM_UP
"""Pictures of MASUKA's besides those that are timed."""


async def in_turns(stand: Stand, count: int, **wishes: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Seconds of each raw picture, and of each of MASUKA's.

    Each call has a raw client of its own, for that reads its websocket only while it draws: one that is left alone for
    minutes does not answer ComfyUI's pings, and is dropped.
    """
    theirs: list[float] = []
    ours: list[float] = []
    graph = graph_in(await stand.draw_patiently(**wishes))
    async with raw_client(stand.comfyui_url()) as raw:
        for _ in range(WARM_UP + count):
            began = time.perf_counter()
            await raw.draw(with_seed(graph, stand.seed()))
            between = time.perf_counter()
            await stand.draw(**wishes)
            theirs.append(between - began)
            ours.append(time.perf_counter() - between)
    return tuple(theirs[WARM_UP:]), tuple(ours[WARM_UP:])
