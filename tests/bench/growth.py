"""Whether a picture costs the same after many, and what each leaves in the memory, the database and Redis."""

import time
from pathlib import Path

from redis.asyncio import Redis

from tests.bench.figures import Fact, Result, Series
from tests.bench.raw import graph_in, raw_client, with_seed
from tests.bench.stand import PROMPT, SMALL, Stand, service
from tests.servers import valkey_server

MARKS, QUICK_MARKS = (1, 1_000, 10_000), (1, 5)
TIMED, QUICK_TIMED = 100, 2
SWEEP = 500
ONE_STEP = {**SMALL, "num_inference_steps": 1}
"""For the pictures between two marks: their rows and files are what counts."""
BYTES_PER_MB, BYTES_PER_KB = 1024 * 1024, 1024
DATABASE = ("masuka.db", "masuka.db-wal")


async def run(folder: Path, quick: bool) -> Result:
    marks = QUICK_MARKS if quick else MARKS
    timed = QUICK_TIMED if quick else TIMED
    series: list[Series] = []
    memory: list[float] = []
    sizes: list[tuple[float, float]] = []
    with valkey_server() as valkey:
        async with service(folder, REDIS_URL=valkey.url) as stand, Redis.from_url(valkey.url) as redis:
            await stand.warm_up()
            done = 1
            for mark in marks:
                await _draw_many(stand, mark - done)
                series += await _in_turns(stand, mark, timed)
                done = max(mark, done) + timed
                memory.append(sum(each.memory_info().rss for each in stand.processes().values()) / BYTES_PER_MB)
                used = (await redis.info("memory"))["used_memory"]
                sizes.append((_database_bytes(stand) / BYTES_PER_KB, used / BYTES_PER_KB))
    jobs = marks[-1] - marks[0]
    facts = [
        *(
            Fact(f"masuka to raw after {mark:,}, p50", "x", ours.quantile(0.5) / raw.quantile(0.5))
            for mark, raw, ours in zip(marks, series[::2], series[1::2], strict=True)
        ),
        *(Fact(f"memory of all processes after {m:,}", "MB", held) for m, held in zip(marks, memory, strict=True)),
        Fact("database, a job", "KB", (sizes[-1][0] - sizes[0][0]) / jobs),
        Fact("Redis, a job", "KB", (sizes[-1][1] - sizes[0][1]) / jobs),
    ]
    return Result(series, facts, {**SMALL, "jobs": marks[-1]})


async def _draw_many(stand: Stand, count: int) -> None:
    while count > 0:
        seeds = [stand.seed() for _ in range(min(count, SWEEP))]
        batch = await stand.post("/api/generate/sweep", {**ONE_STEP, "prompts": [PROMPT], "seeds": seeds})
        await stand.end_of(batch["batch_id"])
        count -= len(seeds)


async def _in_turns(stand: Stand, mark: int, count: int) -> list[Series]:
    """Raw pictures and MASUKA's, in turns.

    The raw client is a new one, for it reads its websocket only while it draws: one that is left alone while thousands
    of other pictures are drawn does not answer ComfyUI's pings, and is dropped.
    """
    theirs: list[float] = []
    ours: list[float] = []
    graph = graph_in(await stand.draw())
    async with raw_client(stand.comfyui_url()) as raw:
        for _ in range(count):
            began = time.perf_counter()
            await raw.draw(with_seed(graph, stand.seed()))
            between = time.perf_counter()
            await stand.draw()
            theirs.append(1000 * (between - began))
            ours.append(1000 * (time.perf_counter() - between))
    return [Series(f"raw, after {mark:,}", "ms", tuple(theirs)), Series(f"masuka, after {mark:,}", "ms", tuple(ours))]


def _database_bytes(stand: Stand) -> int:
    files = [stand.up.data_dir / name for name in DATABASE]
    return sum(file.stat().st_size for file in files if file.exists())
