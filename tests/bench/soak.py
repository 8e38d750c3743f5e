"""A long mixed load: whether anything of ours grows that should not."""

import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from api.client import Api
from api.selftest.dataset import make_dataset
from tests.bench.figures import BYTES_PER_MB, Fact, Result
from tests.bench.stand import PROMPT, SMALL, Stand, service
from tests.bench.switching import TRAINING

MINUTES, QUICK_MINUTES = 60.0, 0.1
LOOK_SECONDS = 5.0
TRAINING_MINUTES = 10.0
GROWTH = 1.1
"""Of memory, from the second third to the last: the first one still warms up."""
MORE = 1
"""Of what is counted, likewise: one file that is just open is no leak."""
METER = Path(__file__).with_name("meter_tasks")
COUNTED = ("files", "connections", "threads", "tasks")


@dataclass(frozen=True, slots=True)
class Look:
    """At one process."""

    name: str
    megabytes: float
    files: int
    connections: int
    threads: int
    tasks: int | None
    """Of asyncio; None in what is no Python."""


async def run(folder: Path, quick: bool, minutes: float = MINUTES) -> Result:
    minutes = QUICK_MINUTES if quick else minutes
    looks: list[Look] = []
    done = {"pictures": 0, "trainings": 0, "pages": 0}
    tasks = folder / "tasks"
    tasks.mkdir(parents=True)
    path = os.pathsep.join(filter(None, (str(METER), os.environ.get("PYTHONPATH"))))
    async with service(folder, PYTHONPATH=path, MASUKA_BENCH_TASKS=str(tasks)) as stand:
        until = time.monotonic() + 60 * minutes
        make_dataset(folder / "photos")
        async with asyncio.TaskGroup() as group:
            group.create_task(_draw(stand, until, done))
            group.create_task(_browse(stand, until, done))
            if not quick:
                group.create_task(_train(stand, folder / "photos", until, done))
            group.create_task(_look(stand, tasks, until, looks))
    facts = [fact for name in sorted({look.name for look in looks}) for fact in growth(name, looks)]
    return Result((), facts, {"minutes": minutes, **done})


def growth(name: str, looks: Sequence[Look]) -> list[Fact]:
    """Of one process: the median of its last third, which should be little more than that of its second."""
    mine = [asdict(look) for look in looks if look.name == name]
    third = max(1, len(mine) // 3)
    middle, last = mine[third : 2 * third] or mine, mine[-third:]
    before, after = (median(look["megabytes"] for look in part) for part in (middle, last))
    facts = [Fact(f"{name}, memory, last third", "MB", after, at_most=round(GROWTH * before, 1))]
    for quantity in COUNTED:
        if all(look[quantity] is not None for look in mine):
            before, after = (median(look[quantity] for look in part) for part in (middle, last))
            facts.append(Fact(f"{name}, {quantity}, last third", "", after, at_most=before + MORE))
    return facts


async def _look(stand: Stand, tasks: Path, until: float, looks: list[Look]) -> None:
    while time.monotonic() < until:
        for name, process in stand.processes().items():
            rss, threads = process.memory_info().rss, process.num_threads()
            connections, files = len(process.net_connections()), process.num_fds()
            looks.append(Look(name, rss / BYTES_PER_MB, files, connections, threads, _tasks(tasks / str(process.pid))))
        await asyncio.sleep(min(LOOK_SECONDS, max(0.0, until - time.monotonic())))


def _tasks(file: Path) -> int | None:
    """What `meter_tasks` wrote last, which a process that is no Python never does."""
    return int(file.read_text(encoding="ascii")) if file.exists() else None


async def _draw(stand: Stand, until: float, done: dict[str, int]) -> None:
    while time.monotonic() < until:
        seeds = [stand.seed() for _ in range(4)]
        batch = await stand.post("/api/generate/sweep", {**SMALL, "prompts": [PROMPT], "seeds": seeds})
        await stand.end_of(batch["batch_id"])
        await stand.draw_patiently()
        done["pictures"] += len(seeds) + 1


async def _browse(stand: Stand, until: float, done: dict[str, int]) -> None:
    while time.monotonic() < until:
        found = (await stand.http.get("/api/assets/", params={"limit": 20, "status": "completed"})).json()["items"]
        for asset in found:
            (await stand.http.get(f"/api/assets/{asset['id']}/file")).raise_for_status()
        done["pages"] += 1
        await asyncio.sleep(1)


async def _train(stand: Stand, photos: Path, until: float, done: dict[str, int]) -> None:
    """Now and then a training, and the upload before it."""
    while time.monotonic() < until:
        with Api(str(stand.http.base_url)) as api:
            dataset = await asyncio.to_thread(api.upload_dataset, photos, {"name": "star"})
        session = await stand.post("/api/training/flux", {"dataset_id": dataset["id"], **TRAINING})
        await stand.end_of(session["id"])
        done["trainings"] += 1
        await asyncio.sleep(min(60 * TRAINING_MINUTES, max(0.0, until - time.monotonic())))
