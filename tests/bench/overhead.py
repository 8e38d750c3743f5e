"""What a picture costs above the bare ComfyUI: the same graph, one after the other, in turns."""

import time
from pathlib import Path

from tests.bench.figures import Result, Series, compared
from tests.bench.raw import graph_in, raw_client, with_seed
from tests.bench.stand import SMALL, service

COUNT, QUICK_COUNT = 200, 4
WARM_UP = 3


async def run(folder: Path, quick: bool) -> Result:
    count = QUICK_COUNT if quick else COUNT
    ours: list[float] = []
    theirs: list[float] = []
    async with service(folder) as stand:
        graph = graph_in(await stand.warm_up())
        async with raw_client(stand.comfyui_url()) as raw:
            for turn in range(-WARM_UP, count):
                began = time.perf_counter()
                await raw.draw(with_seed(graph, stand.seed()))
                between = time.perf_counter()
                await stand.draw()
                ended = time.perf_counter()
                if turn >= 0:
                    theirs.append(1000 * (between - began))
                    ours.append(1000 * (ended - between))
    masuka, bare = Series("masuka", "ms", tuple(ours)), Series("raw", "ms", tuple(theirs))
    return Result((bare, masuka), compared("above raw", masuka, bare, p50=10, p95=25), {**SMALL, "pictures": count})
