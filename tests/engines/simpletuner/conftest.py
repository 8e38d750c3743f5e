"""Real trainings, each run once: a good one, one that is killed, resumed and stopped, and three that cannot work."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import pytest_asyncio

from api.domain.engine import InstalledBase
from api.engines import locate
from api.engines.sources import SIMPLETUNER_4_PYTHON
from api.settings import PROJECT_ROOT, Settings
from api.trainer.process import RunnerHandle, find, start
from api.trainer.state import TrainingState
from api.trainer.workdir import Workdir, write_json
from tests.engines.simpletuner.trainer_lab import Run, TrainerLab, follow_to_the_end, start_command


@dataclass
class Interrupted:
    """One training in two runs: the trainer is killed after its first checkpoint; the second run is stopped."""

    killed: Run
    stopped: Run
    handle: RunnerHandle
    seconds_to_stop: float


@pytest.fixture(scope="session", params=["3.1.6", "4.8.0"])
def trainer_lab(request: pytest.FixtureRequest, flux_tiny: InstalledBase) -> TrainerLab:
    """Both versions that MASUKA supports, one after the other."""
    if request.param == "3.1.6" and sys.version_info >= SIMPLETUNER_4_PYTHON:
        pytest.skip("MASUKA installs SimpleTuner 3.1.6 on Python 3.11 only")
    folder: Path = request.getfixturevalue("engines_dir" if request.param == "3.1.6" else "newer_engines_dir")
    return TrainerLab(locate.simpletuner(Settings(_env_file=None, masuka_engines_dir=folder)), flux_tiny)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def trained(trainer_lab: TrainerLab, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """20 steps on 5 photos in 3 buckets, started by a process that is gone before the first of them."""
    workdir = trainer_lab.prepare(
        tmp_path_factory.mktemp("training") / "good", batch_size=2, checkpoint_interval=10, lr_warmup_steps=2
    )
    command = start_command(workdir, trainer_lab.install)
    starter = await asyncio.create_subprocess_exec(*command, cwd=PROJECT_ROOT, env=_import_path())
    assert await starter.wait() == 0
    assert find(workdir) is not None
    return await follow_to_the_end(workdir)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def interrupted(trainer_lab: TrainerLab, tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    workdir = trainer_lab.prepare(tmp_path_factory.mktemp("training") / "interrupted", steps=500, checkpoint_interval=3)
    handle = await start(workdir, trainer_lab.install, job_id="job-2")

    def kill(state: TrainingState) -> None:
        if state.step >= 5 and state.checkpoints:
            handle.kill_trainer()

    killed = await follow_to_the_end(workdir, kill)
    handle = await start(workdir, trainer_lab.install, job_id="job-2")
    stopping: list[asyncio.Task[None]] = []
    asked_at = 0.0

    def stop(state: TrainingState) -> None:
        nonlocal asked_at
        if state.step >= 5 and not stopping:
            asked_at = asyncio.get_running_loop().time()
            stopping.append(asyncio.create_task(handle.stop()))

    stopped = await follow_to_the_end(workdir, stop)
    await asyncio.gather(*stopping)
    return Interrupted(killed, stopped, handle, asyncio.get_running_loop().time() - asked_at)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def refused(trainer_lab: TrainerLab, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Trainings that cannot work, at the same time: most of it is importing."""
    folder = tmp_path_factory.mktemp("refused")
    nowhere = replace(trainer_lab.base, diffusers_dir=folder / "no-model")
    workdirs = {
        "no images": trainer_lab.prepare(folder / "no-images", photos=0),
        "no folder": trainer_lab.prepare(folder / "no-folder", photos=0),
        "no model": TrainerLab(trainer_lab.install, nowhere).prepare(folder / "model"),
        "bad option": trainer_lab.prepare(folder / "bad-option"),
    }
    workdirs["no folder"].dataset.rmdir()
    _add_option(workdirs["bad option"], "no_such_option", 5)

    async def run(workdir: Workdir) -> Run:
        await start(workdir, trainer_lab.install, job_id="job-3")
        return await follow_to_the_end(workdir)

    runs = await asyncio.gather(*map(run, workdirs.values()))
    return dict(zip(workdirs, runs, strict=True))


def _add_option(workdir: Workdir, name: str, value: int) -> None:
    write_json(workdir.config, json.loads(workdir.config.read_text()) | {name: value})


def _import_path() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
