"""A workdir and a trainer that does as it is told."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from api.domain.engine import InstalledBase, TrainerInstall
from api.domain.training import FluxDefaults, FluxTrainingRequest
from api.trainer.process import prepare, recall
from api.trainer.workdir import Workdir

FAKE = Path(__file__).with_name("fake_trainer.py")


@pytest.fixture
async def workdir(tmp_path: Path) -> AsyncIterator[Workdir]:
    """Prepared for a training; whatever still runs in it is ended after the test."""
    workdir = Workdir(tmp_path)
    base = InstalledBase("flux-tiny", "flux", tmp_path / "base", tmp_path, "u", "c", "t", "v")
    defaults = FluxDefaults(learning_rate=1e-4, steps=20, rank=4, alpha=2, resolution=64)
    prepare(workdir, FluxTrainingRequest().resolve(defaults), base=base, install=told())
    yield workdir
    handle = recall(workdir)
    if handle is not None:
        await handle.stop(0)


def told(*actions: tuple[str, Any]) -> TrainerInstall:
    """A trainer that does this."""
    return TrainerInstall(Path(sys.executable), FAKE, "3.1.6", gpu=False, env={"FAKE_TRAINER": json.dumps(actions)})


async def until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Return when `condition()` is true; an AssertionError if it does not become so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not true after {seconds} s"
        await asyncio.sleep(0.01)
