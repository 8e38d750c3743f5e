"""A short campaign on the real parts, stopped half-way and continued; `scripts/faults` runs long ones."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.faults.campaign.plan import WEIGHTS, Action, Kind, Target
from tests.faults.campaign.run import Campaign, run

KINDS = [
    Kind(Target.API, Action.KILL),
    Kind(Target.GPU_WORKER, Action.KILL),
    Kind(Target.REDIS, Action.KILL),
    Kind(Target.SOCKET, Action.DROP),
    Kind(Target.SOCKET, Action.SILENCE),
    Kind(Target.GPU_MEMORY, Action.EXHAUST),
]
"""Those that cost little time; each comes once."""
SEED = 4


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="masuka-faults-", dir="/tmp", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.mark.engines
@pytest.mark.timeout(1200)
async def test_nothing_is_lost_and_nothing_is_stuck(folder: Path, engines_dir: Path) -> None:
    campaign = Campaign(folder, engines_dir, SEED, len(KINDS), {kind: WEIGHTS[kind] for kind in KINDS})
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if ": recovered in " in line and len(said) > len(KINDS) // 2 and not first.done():
            first.cancel()  # as if the power had failed: everything is killed at once

    first = asyncio.create_task(run(campaign, say))
    await asyncio.wait({first})
    assert first.cancelled(), said

    found = await run(campaign, say)

    assert found["wrongs"] == {}, said
    assert found["faults_by_kind"] == dict.fromkeys(sorted(map(str, KINDS)), 1)
    assert found["skipped"] == 0
    assert found["statuses"]["completed"] >= len(KINDS)
