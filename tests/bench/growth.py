"""Whether a picture costs the same after many, and what each leaves in the memory, the database and Redis."""

import time
from pathlib import Path

from redis.asyncio import Redis

from tests.bench.figures import Fact, Result, Series
from tests.bench.raw import RawClient, graph_in, raw_client, with_seed
from tests.bench.stand import PROMPT, SMALL, Stand, service
from tests.servers import valkey_server

MARKS, QUICK_MARKS = (1, 1_000, 10_000), (1, 5)
TIMED, QUICK_TIMED = 50, 2
SWEEP = 500
BYTES_PER_MB, BYTES_PER_KB = 1024 * 1024, 1024
DATABASE = ("masuka.db", "masuka.db-wal")


async def run(folder: Path, quick: bool) -> Result:
    marks = QUICK_MARKS if quick else MARKS
    series: list[Series] = []
    memory: list[float] = []
    sizes: list[tuple[float, float]] = []
    with valkey_server() as valkey:
        async with service(folder, REDIS_URL=valkey.url) as stand, Redis.from_url(valkey.url) as redis:
            graph = graph_in(await stand.warm_up())
            async with raw_client(stand.comfyui_url()) as raw:
                done = 1
                for mark in marks:
                    await _draw_many(stand, mark - done)
                    done = max(mark, done)
                    series.append(await _above_raw(stand, raw, graph, mark, QUICK_TIMED if quick else TIMED))
                    done += QUICK_TIMED if quick else TIMED
                    memory.append(sum(each.memory_info().rss for each in stand.processes().values()) / BYTES_PER_MB)
                    used = (await redis.info("memory"))["used_memory"]
                    sizes.append((_database_bytes(stand) / BYTES_PER_KB, used / BYTES_PER_KB))
    jobs = marks[-1] - marks[0]
    facts = [
        *(Fact(f"memory of all processes after {mark}", "MB", held) for mark, held in zip(marks, memory, strict=True)),
        Fact("above raw, last mark to first, p50", "ms", series[-1].quantile(0.5) - series[0].quantile(0.5)),
        Fact("database, a job", "KB", (sizes[-1][0] - sizes[0][0]) / jobs),
        Fact("Redis, a job", "KB", (sizes[-1][1] - sizes[0][1]) / jobs),
    ]
    return Result(series, facts, {**SMALL, "jobs": marks[-1]})


async def _draw_many(stand: Stand, count: int) -> None:
    while count > 0:
        seeds = [stand.seed() for _ in range(min(count, SWEEP))]
        batch = await stand.post("/api/generate/sweep", {**SMALL, "prompts": [PROMPT], "seeds": seeds})
        await stand.end_of(batch["batch_id"])
        count -= len(seeds)


async def _above_raw(
    stand: Stand, raw: RawClient, graph: dict[str, dict[str, object]], mark: int, count: int
) -> Series:
    """Of pictures that take turns with raw ones, what each takes more than the raw one before it."""
    more = []
    for _ in range(count):
        began = time.perf_counter()
        await raw.draw(with_seed(graph, stand.seed()))
        between = time.perf_counter()
        await stand.draw()
        more.append(1000 * ((time.perf_counter() - between) - (between - began)))
    return Series(f"above raw after {mark}", "ms", tuple(more))


def _database_bytes(stand: Stand) -> int:
    files = [stand.up.data_dir / name for name in DATABASE]
    return sum(file.stat().st_size for file in files if file.exists())
