"""One campaign: the load runs, faults come one after the other, and everything must end."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Mapping
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from api.db import open_database
from api.selftest.dataset import make_dataset
from api.settings import Settings
from tests.faults.campaign.client import Client
from tests.faults.campaign.facts import collect, left_over, nobodys_files
from tests.faults.campaign.inject import Injected, inject
from tests.faults.campaign.judge import judge
from tests.faults.campaign.ledger import Ledger
from tests.faults.campaign.load import Load
from tests.faults.campaign.outside import Outside, outside_servers
from tests.faults.campaign.plan import Action, Fault, Kind, Target, plan
from tests.faults.campaign.recovery import recovered_at
from tests.faults.campaign.report import report
from tests.faults.campaign.stand import Stand
from tests.waiting import until

RECOVERY_LIMIT_SECONDS = 300.0
END_LIMIT_SECONDS = 600.0
"""From the last fault until everything that was accepted must have ended."""
SAMPLES_BEFORE = 200
"""What is remembered of the time before a fault."""
SETTLE_SECONDS = 60.0
TRAINER_LIMIT_SECONDS = 90.0
GONE_SECONDS = 20.0
"""How long what was started may take to end after the service's own end."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Campaign:
    """What is to be done, and where."""

    folder: Path
    engines_dir: Path
    seed: int
    runs: int
    kinds: Mapping[Kind, int]
    outside: Collection[Target] = ()
    minutes: float = float("inf")
    """After that no new fault comes."""


async def run(campaign: Campaign, say: Say) -> dict[str, Any]:
    """Do it all, or go on with what is in the folder; the report. What was started is gone afterwards.

    Raises ServiceDownError when the service does not come up.
    """
    with closing(Ledger(campaign.folder / "ledger.jsonl")) as ledger:
        async with outside_servers(campaign.outside, campaign.folder) as outside:
            processes = await _live(campaign, ledger, outside, say)
            direct = {name: value for server in outside.values() for name, value in server.direct.items()}
            facts = await collect(_settings(campaign, direct), processes)
        return report(ledger.entries, judge(ledger.entries, facts))


async def _live(campaign: Campaign, ledger: Ledger, outside: Mapping[Target, Outside], say: Say) -> tuple[str, ...]:
    """The service's life, under load, with all its faults, to its end; the processes that it leaves behind."""
    values = {name: value for server in outside.values() for name, value in server.through_link.items()}
    stand = Stand(_settings(campaign, values), values)
    chance = random.Random(f"{campaign.seed}-{len(ledger.entries)}")
    client = Client(stand.url, ledger, chance)
    load = Load(client, ledger, chance)
    try:
        await stand.start()
        say(f"{stand.url} is ready; the campaign is in {campaign.folder}")
        await load.prepare(await asyncio.to_thread(_photos, campaign.folder))
        async with _going_on(load.run()) as working, _going_on(_do(campaign, stand, outside, load, say)) as doing:
            await asyncio.wait({working, doing}, return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                doing.result()
            load.stopped = True
            say(f"no more faults; {len(load.waiting)} jobs are on their way")
            with suppress(TimeoutError):  # what has not ended by then is for the judge
                await asyncio.wait_for(asyncio.shield(working), END_LIMIT_SECONDS)
        await _settle(stand.settings, load)
        ledger.note("stopped", code=await stand.stop())
        return await asyncio.to_thread(_survivors, stand)
    finally:
        await client.aclose()
        await stand.kill()


@asynccontextmanager
async def _going_on(work: Coroutine[Any, Any, None]) -> AsyncIterator["asyncio.Task[None]"]:
    """`work` as a task that does not outlive the block."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


def _settings(campaign: Campaign, values: Mapping[str, Any]) -> Settings:
    folders: dict[str, Any] = {
        "masuka_data_dir": campaign.folder / "data",
        "masuka_engines_dir": campaign.engines_dir,
    }
    return Settings(_env_file=None, **folders, **values)


async def _do(campaign: Campaign, stand: Stand, outside: Mapping[Target, Outside], load: Load, say: Say) -> None:
    """All faults, each after the recovery from the one before."""
    done, tried = len(load.ledger.of("fault")), len(load.ledger.of("fault", "skipped"))
    deadline = time.monotonic() + 60 * campaign.minutes
    if done >= campaign.runs:
        return
    # The first picture waits for ComfyUI's first start, which no fault is to blame for.
    await until(lambda: any(sample.status == "completed" for sample in load.samples), END_LIMIT_SECONDS, every=0.1)
    for fault in islice(plan(campaign.seed, campaign.kinds), tried, None):
        if done >= campaign.runs or time.monotonic() > deadline:
            return
        await _make_ready(stand, load, fault)
        await asyncio.sleep(fault.delay_seconds)
        del load.samples[:-SAMPLES_BEFORE]
        injected = await inject(stand, outside, fault)
        if injected is None:
            load.ledger.note("skipped", number=fault.number, kind=str(fault.kind))
            say(f"{fault.number:4} {fault.kind}: not there")
            continue
        done += 1
        load.ledger.note("fault", number=fault.number, kind=str(fault.kind), at=injected.at, over=injected.over)
        seconds = await _recovery(load, fault, injected)
        event = "not_recovered" if seconds is None else "recovered"
        load.ledger.note(event, number=fault.number, kind=str(fault.kind), seconds=seconds)
        say(_line(fault, injected, seconds))


def _line(fault: Fault, injected: Injected, seconds: float | None) -> str:
    lasted = injected.over - injected.at
    what = f"{fault.number:4} {fault.kind}{f' for {lasted:.0f} s' if lasted > 0.5 else ''}"
    where = " in a training" if fault.in_training else ""
    return f"{what}{where}: {'NOT RECOVERED' if seconds is None else f'recovered in {seconds:.1f} s'}"


async def _make_ready(stand: Stand, load: Load, fault: Fault) -> None:
    """A fault that wants a trainer gets one."""
    if not fault.in_training:
        return
    load.training_wanted.set()
    with suppress(TimeoutError):
        await until(stand.trainer, TRAINER_LIMIT_SECONDS, every=0.2)


async def _recovery(load: Load, fault: Fault, injected: Injected) -> float | None:
    """Seconds from the end of the fault; 0 when the service worked on during it; None when it took too long."""
    deadline = time.time() + RECOVERY_LIMIT_SECONDS
    new_attempt = fault.kind.action is Action.KILL and fault.kind.target in (Target.TRAINER, Target.RUNNER)
    while time.time() < deadline:
        at = recovered_at(load.samples, injected.at, injected.over, new_attempt=new_attempt)
        if at is not None:
            return round(max(0.0, at - injected.over), 2)
        await asyncio.sleep(0.1)
    return None


async def _settle(settings: Settings, load: Load) -> None:
    """Files that a dead process has left may take a while to be found; what is there after that is for the judge."""
    async with open_database(settings) as sessions:
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline:
            if not load.waiting and not left_over(settings) and not await nobodys_files(settings, sessions):
                return
            await asyncio.sleep(1)


def _survivors(stand: Stand) -> tuple[str, ...]:
    """Processes that are still there although the service has ended, and stay."""
    deadline = time.monotonic() + GONE_SECONDS
    while (left := stand.processes()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return tuple(f"{process.pid} {' '.join(process.cmdline()[:4])}" for process in left)


def _photos(folder: Path) -> Path:
    photos = folder / "photos"
    if not photos.exists():
        make_dataset(photos)
        for path in sorted(photos.iterdir())[16:]:  # a trainer encodes each of them
            path.unlink()
    return photos
