"""One campaign: the load runs, faults come one after the other, and everything must end."""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api.selftest.dataset import make_dataset
from api.settings import Settings
from tests.faults.campaign.client import Client
from tests.faults.campaign.facts import collect
from tests.faults.campaign.inject import Injected, inject
from tests.faults.campaign.judge import judge
from tests.faults.campaign.ledger import Ledger
from tests.faults.campaign.load import Load
from tests.faults.campaign.plan import Fault
from tests.faults.campaign.recovery import recovered_at
from tests.faults.campaign.report import report
from tests.faults.campaign.stand import Stand
from tests.waiting import until

RECOVERY_LIMIT_SECONDS = 180.0
END_LIMIT_SECONDS = 300.0
"""From the last fault until everything that was accepted must have ended."""
TRAINER_LIMIT_SECONDS = 90.0
GONE_SECONDS = 20.0
"""How long what was started may take to end after the service's own end."""

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Campaign:
    """What is to be done, and where."""

    folder: Path
    settings: Settings
    env: dict[str, str]
    seed: int
    faults: Iterator[Fault]
    runs: int
    deadline: float
    """On the monotonic clock."""


async def run(campaign: Campaign, ledger: Ledger, say: Say) -> dict[str, Any]:
    """Do it all; the report. What was started is gone afterwards, whatever happened."""
    stand = Stand(campaign.settings, campaign.env)
    chance = random.Random(f"{campaign.seed}-{len(ledger.entries)}")
    client = Client(stand.url, ledger, chance)
    load = Load(client, ledger, chance)
    try:
        await stand.start()
        say(f"{stand.url} is ready; the campaign is in {campaign.folder}")
        await load.prepare(await asyncio.to_thread(_photos, campaign.folder))
        working = asyncio.create_task(load.run())
        doing = asyncio.create_task(_do(campaign, stand, load, say))
        await asyncio.wait({working, doing}, return_when=asyncio.FIRST_COMPLETED)
        await _finish(load, working, doing, say)
        ledger.note("stopped", code=await stand.stop())
        processes = await asyncio.to_thread(_survivors, stand)
    finally:
        await client.aclose()
        await stand.kill()
    facts = await collect(campaign.settings, processes)
    return report(ledger.entries, judge(ledger.entries, facts))


async def _do(campaign: Campaign, stand: Stand, load: Load, say: Say) -> None:
    """All faults, each after the recovery from the one before."""
    done = len(load.ledger.of("fault"))
    for fault in campaign.faults:
        if done >= campaign.runs or time.monotonic() > campaign.deadline:
            return
        await _make_ready(stand, load, fault)
        await asyncio.sleep(fault.delay_seconds)
        injected = await inject(stand, fault)
        if injected is None:
            load.ledger.note("skipped", number=fault.number, kind=str(fault.kind))
            say(f"{fault.number:4} {fault.kind}: not there")
            continue
        done += 1
        load.ledger.note("fault", number=fault.number, kind=str(fault.kind), at=injected.at, over=injected.over)
        seconds = await _recovery(load, injected)
        event = "not_recovered" if seconds is None else "recovered"
        load.ledger.note(event, number=fault.number, kind=str(fault.kind), seconds=seconds)
        after = "NOT RECOVERED" if seconds is None else f"recovered in {seconds:.1f} s"
        lasted = f" for {injected.over - injected.at:.0f} s" if fault.lasts_seconds else ""
        say(f"{fault.number:4} {fault.kind}{lasted}{' in a training' if fault.in_training else ''}: {after}")


async def _make_ready(stand: Stand, load: Load, fault: Fault) -> None:
    """A fault that wants a trainer gets one."""
    if not fault.in_training:
        return
    load.training_wanted.set()
    with suppress(TimeoutError):
        await until(stand.trainer, TRAINER_LIMIT_SECONDS, every=0.2)


async def _recovery(load: Load, injected: Injected) -> float | None:
    """Seconds from the end of the fault; 0 when the service worked on during it; None when it took too long."""
    deadline = time.time() + RECOVERY_LIMIT_SECONDS
    while time.time() < deadline:
        at = recovered_at(load.samples, injected.at, injected.over)
        if at is not None:
            return round(max(0.0, at - injected.over), 2)
        await asyncio.sleep(0.05)
    return None


async def _finish(load: Load, working: "asyncio.Task[None]", doing: "asyncio.Task[None]", say: Say) -> None:
    """Let everything end that was accepted; what has not ended in time is for the judge. Raises what went wrong."""
    if not doing.done():
        doing.cancel()
        await asyncio.wait({doing})
    load.stopped = True
    say(f"no more faults; {len(load.waiting)} jobs are on their way")
    await asyncio.wait({working}, timeout=END_LIMIT_SECONDS)
    if not working.done():
        working.cancel()
        await asyncio.wait({working})
    for task in (working, doing):
        if not task.cancelled() and (exc := task.exception()) is not None:
            raise exc


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
