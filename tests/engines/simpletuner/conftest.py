"""Real trainings, each run once with each version: a good one, one with three lives, those that fail."""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import pytest_asyncio

from api.domain.engine import InstalledBase
from api.engines import locate
from api.engines.sources import SIMPLETUNER_4_PYTHON
from api.settings import PROJECT_ROOT, Settings
from api.trainer import checkpoint_stop
from api.trainer.checkpoint import newest_whole
from api.trainer.checkpoint_stop import Stopped, stop_at_checkpoint
from api.trainer.proc import signal_group
from api.trainer.process import RunnerHandle, find, start
from api.trainer.simpletuner import major
from api.trainer.state import TrainingStage, TrainingState
from api.trainer.workdir import Workdir, write_json
from tests.engines.simpletuner.trainer_lab import Run, TrainerLab, follow_to_the_end, start_command


@dataclass
class Interrupted:
    """One training in three runs, each of which goes on from the newest whole checkpoint of the one before."""

    killed: Run
    """While it saved its second checkpoint."""
    whole: int
    """The step of the newest checkpoint that it left whole."""
    stopped: Run
    """By us, after a last checkpoint where the trainer can save one when it is asked."""
    handle: RunnerHandle
    stop: Stopped
    seconds_to_stop: float
    terminated: Run
    """By somebody else."""


@pytest.fixture(scope="session", params=["3.1.6", "4.8.0"])
def trainer_engines_dir(request: pytest.FixtureRequest) -> Path:
    """The engines with each version that MASUKA supports, one after the other."""
    if request.param == "3.1.6" and sys.version_info >= SIMPLETUNER_4_PYTHON:
        pytest.skip("MASUKA installs SimpleTuner 3.1.6 on Python 3.11 only")
    folder: Path = request.getfixturevalue("engines_dir" if request.param == "3.1.6" else "newer_engines_dir")
    return folder


@pytest.fixture(scope="session")
def trainer_lab(trainer_engines_dir: Path, flux_tiny: InstalledBase) -> TrainerLab:
    settings = Settings(_env_file=None, masuka_engines_dir=trainer_engines_dir)
    return TrainerLab(locate.simpletuner(settings), flux_tiny)


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
async def again(trainer_lab: TrainerLab, trained: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The good training once more, which has all its steps; 4.8 with the LoRA format that holds its alpha."""
    workdir = trainer_lab.prepare(tmp_path_factory.mktemp("training") / "again", batch_size=2, lr_warmup_steps=2)
    shutil.copytree(trained.workdir.output, workdir.output)
    if major(trainer_lab.install.version) >= 4:
        _add_option(workdir, "lora_format", "comfyui")
    await start(workdir, trainer_lab.install, job_id="job-1", resumed_at=20)
    return await follow_to_the_end(workdir)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def interrupted(trainer_lab: TrainerLab, tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    workdir = trainer_lab.prepare(tmp_path_factory.mktemp("training") / "interrupted", steps=500, checkpoint_interval=5)
    saves_per_checkpoint = 3
    await start(workdir, trainer_lab.with_fault(f"killed_while_saving:{saves_per_checkpoint + 1}"), job_id="job-2")
    killed = await follow_to_the_end(workdir)
    whole = newest_whole(workdir, {})

    handle = await start(workdir, trainer_lab.install, job_id="job-2", resumed_at=whole)
    stopping: list[asyncio.Task[Stopped]] = []
    asked_at = 0.0

    def stop(state: TrainingState) -> None:
        nonlocal asked_at
        if state.step > whole and not stopping:
            asked_at = asyncio.get_running_loop().time()
            stopping.append(asyncio.create_task(stop_at_checkpoint(handle)))

    with patch.multiple(checkpoint_stop, SAVE_SECONDS=60, GRACE_SECONDS=30):
        stopped = await follow_to_the_end(workdir, stop)
        (at,) = await asyncio.gather(*stopping)
    seconds_to_stop = asyncio.get_running_loop().time() - asked_at

    last = await start(workdir, trainer_lab.install, job_id="job-2", resumed_at=at.resumes_from)

    def terminate(state: TrainingState) -> None:
        if state.step > at.resumes_from:
            signal_group(last.trainer_pid, signal.SIGTERM)

    terminated = await follow_to_the_end(workdir, terminate)
    return Interrupted(killed, whole, stopped, handle, at, seconds_to_stop, terminated)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def refused(trainer_lab: TrainerLab, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Trainings that cannot work, at the same time: most of it is importing."""
    folder = tmp_path_factory.mktemp("refused")
    nowhere = replace(trainer_lab.base, diffusers_dir=folder / "no-model")
    workdirs = {
        "no images": trainer_lab.prepare(folder / "no-images", photos=0),
        "no folder": trainer_lab.prepare(folder / "no-folder", photos=0),
        "small images": trainer_lab.prepare(folder / "small"),
        "no model": TrainerLab(trainer_lab.install, nowhere).prepare(folder / "model"),
        "bad option": trainer_lab.prepare(folder / "bad-option"),
        "bad optimizer": trainer_lab.prepare(folder / "bad-optimizer"),
    }
    workdirs["no folder"].dataset.rmdir()
    backends = json.loads(workdirs["small images"].backends.read_text())
    backends[0]["minimum_image_size"] = 512
    write_json(workdirs["small images"].backends, backends)
    _add_option(workdirs["bad option"], "no_such_option", 5)
    _add_option(workdirs["bad optimizer"], "optimizer", "adamw8bit")

    async def run(workdir: Workdir) -> Run:
        await start(workdir, trainer_lab.install, job_id="job-3")
        return await follow_to_the_end(workdir)

    return await _at_the_same_time({name: run(workdir) for name, workdir in workdirs.items()})


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def broken_off(trainer_lab: TrainerLab, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Trainings that could have worked, and to which something happens."""
    folder = tmp_path_factory.mktemp("broken-off")

    async def run(
        name: str, fault: str | None = None, when: Callable[[TrainingState], bool] = lambda _: False, steps: int = 500
    ) -> Run:
        workdir = trainer_lab.prepare(folder / name, steps=steps, checkpoint_interval=2)
        install = trainer_lab.with_fault(fault) if fault else trainer_lab.install
        handle = await start(workdir, install, job_id="job-4")

        sent: list[int] = []

        def interrupt(state: TrainingState) -> None:
            if when(state) and not sent:  # a second one would end it before it could say so
                sent.append(state.step)
                signal_group(handle.trainer_pid, signal.SIGINT)

        return await follow_to_the_end(workdir, interrupt)

    return await _at_the_same_time(
        {
            "GPU memory full": run("memory", "out_of_memory:3"),
            "disk full": run("disk", "disk_full:4"),
            "disk full while caching": run("cache", "disk_full_for_caches:3"),
            "LoRA lost": run("lora", "lora_lost:1", steps=2),
            "interrupted while caching": run("caching", when=lambda state: state.stage is TrainingStage.ENCODING_CAPTIONS),
            "interrupted while training": run("training", when=lambda state: state.step >= 1),
        }
    )


async def _at_the_same_time(runs: dict[str, Coroutine[Any, Any, Run]]) -> dict[str, Run]:
    """Three at a time: a trainer takes 1 GB of memory."""
    free = asyncio.Semaphore(3)

    async def run(one: Coroutine[Any, Any, Run]) -> Run:
        async with free:
            return await one

    return dict(zip(runs, await asyncio.gather(*map(run, runs.values())), strict=True))


def _add_option(workdir: Workdir, name: str, value: int | str) -> None:
    write_json(workdir.config, json.loads(workdir.config.read_text()) | {name: value})


def _import_path() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(PROJECT_ROOT)}
