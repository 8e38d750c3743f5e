"""Whether a picture costs the same after many, and what each leaves in the memory, the database and Redis."""

from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis

from tests.bench.figures import BYTES_PER_KB, BYTES_PER_MB, Fact, Result, Series, milliseconds
from tests.bench.stand import PROMPT, SMALL, Stand, service
from tests.bench.turns import UNTIMED, in_turns
from tests.servers import valkey_server

MARKS, QUICK_MARKS = (1, 1_000, 10_000), (1, 10)
"""Pictures so far, those that were timed at an earlier mark among them."""
TIMED, QUICK_TIMED = 100, 2
SWEEP = 500
ONE_STEP = {**SMALL, "num_inference_steps": 1}
"""For the pictures between two marks: their rows and files are what counts."""
FLAT = 1.1
"""The most by which anything may be more after the last mark than after the first."""
DATABASE = ("masuka.db", "masuka.db-wal")


@dataclass(frozen=True, slots=True)
class Mark:
    """What there is after so many pictures."""

    pictures: int
    raw: Series
    masuka: Series
    memory_mb: float
    database_kb: float
    redis_kb: float

    @property
    def ratio(self) -> float:
        return self.masuka.quantile(0.5) / self.raw.quantile(0.5)


async def run(folder: Path, quick: bool) -> Result:
    timed = QUICK_TIMED if quick else TIMED
    marks: list[Mark] = []
    drawn = 0
    with valkey_server() as valkey:
        async with service(folder, REDIS_URL=valkey.url) as stand, Redis.from_url(valkey.url) as redis:
            for pictures in QUICK_MARKS if quick else MARKS:
                await _draw_many(stand, pictures - drawn)
                marks.append(await _measure(stand, redis, pictures, timed))
                drawn = pictures + UNTIMED + timed
    first, last = marks[0], marks[-1]
    jobs = last.pictures - first.pictures
    facts = [
        *(Fact(f"masuka to raw after {mark.pictures:,}, p50", "x", mark.ratio) for mark in marks),
        Fact("the last of them to the first", "x", last.ratio / first.ratio, at_most=FLAT),
        *(Fact(f"memory of all processes after {mark.pictures:,}", "MB", mark.memory_mb) for mark in marks),
        Fact("memory, the last to the first", "x", last.memory_mb / first.memory_mb, at_most=FLAT),
        Fact("database, a job", "KB", (last.database_kb - first.database_kb) / jobs),
        Fact("Redis, a job", "KB", (last.redis_kb - first.redis_kb) / jobs),
    ]
    return Result([series for mark in marks for series in (mark.raw, mark.masuka)], facts, {**SMALL, "jobs": jobs})


async def _measure(stand: Stand, redis: Redis, pictures: int, timed: int) -> Mark:
    used = (await redis.info("memory"))["used_memory"]
    database = sum(file.stat().st_size for file in map(stand.up.data_dir.joinpath, DATABASE) if file.exists())
    theirs, ours = await in_turns(stand, timed)
    return Mark(
        pictures,
        Series(f"raw, after {pictures:,}", "ms", milliseconds(theirs)),
        Series(f"masuka, after {pictures:,}", "ms", milliseconds(ours)),
        sum(each.memory_info().rss for each in stand.processes().values()) / BYTES_PER_MB,
        database / BYTES_PER_KB,
        used / BYTES_PER_KB,
    )


async def _draw_many(stand: Stand, count: int) -> None:
    while count > 0:
        seeds = [stand.seed() for _ in range(min(count, SWEEP))]
        batch = await stand.post("/api/generate/sweep", {**ONE_STEP, "prompts": [PROMPT], "seeds": seeds})
        await stand.end_of(batch["batch_id"])
        count -= len(seeds)
