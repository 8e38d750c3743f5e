"""Trainers as processes that outlive this one: start, find again, stop, and be sure that nothing is left."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api.domain.engine import InstalledBase, TrainerInstall
from api.domain.training import FluxTrainingConfig
from api.errors import ConflictError, EngineError, RetryableError
from api.processes import boot_id, process_start
from api.settings import PROJECT_ROOT
from api.trainer.checkpoint import relocate
from api.trainer.proc import Group, look_at_group, signal_group
from api.trainer.simpletuner import data_backends, environment, sample_prompts, trainer_config, webhook_config
from api.trainer.workdir import Workdir, write_json

GRACE_SECONDS = 30.0
"""What a trainer may take to stop by itself; 3 to 4 s are usual, a step of a large model is more."""
KILL_SECONDS = 10.0
START_SECONDS = 30.0
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class RunnerHandle:
    """One run of a trainer and of the runner that keeps it, known by pid and start time; they may be long gone."""

    workdir: Workdir
    boot_id: str
    pid: int
    start: int
    trainer_pid: int
    started_at: float
    """Seconds since the epoch."""

    def alive(self) -> bool:
        """Whether the runner lives, and so the run goes on."""
        return process_start(self.pid) == self.start and boot_id() == self.boot_id

    def gone(self) -> bool:
        """Whether neither the runner nor the trainer nor any process of the trainer's group lives."""
        return not self.alive() and not self.look().pids

    def look(self) -> Group:
        """The trainer's group; without members when it is no more, or not the one this run started."""
        if boot_id() != self.boot_id:
            return Group((), stopped=False, cpu_seconds=0.0)
        return look_at_group(self.trainer_pid, session=self.pid)

    def kill_trainer(self) -> None:
        self._signal_trainer(signal.SIGKILL)

    def freeze_trainer(self) -> None:
        """Stop its processes where they are; the runner lives on and loses no message."""
        self._signal_trainer(signal.SIGSTOP)

    def thaw_trainer(self) -> None:
        self._signal_trainer(signal.SIGCONT)

    def _signal_trainer(self, number: int) -> None:
        """To the trainer's whole group, if it is still the one this run started."""
        if self.look().pids:
            signal_group(self.trainer_pid, number)

    async def stop(self, grace: float = GRACE_SECONDS) -> None:
        """Interrupt the trainer, after `grace` seconds kill it; return when `gone()`.

        Raises EngineError `trainer_stuck` if something of it still lives 2 x KILL_SECONDS later.
        """
        if self.alive():
            self._signal_runner(signal.SIGTERM)
            if await self._wait_until_gone(grace):
                return
        self.kill_trainer()
        if await self._wait_until_gone(KILL_SECONDS):
            return
        self._signal_runner(signal.SIGKILL)
        if not await self._wait_until_gone(KILL_SECONDS):
            raise EngineError(
                f"The trainer (process {self.trainer_pid}) could not be killed.",
                code="trainer_stuck",
                value=self.trainer_pid,
                hint="It hangs in the GPU driver or on a disk; a restart of the machine frees it.",
            )

    async def _wait_until_gone(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while not self.gone():
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS)
        return True

    def _signal_runner(self, number: int) -> None:
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)
                os.kill(self.pid, signal.SIGCONT)  # a frozen one would never see it


def prepare(
    workdir: Workdir,
    config: FluxTrainingConfig,
    *,
    base: InstalledBase,
    install: TrainerInstall,
    auto_precision: str = "bf16",
) -> None:
    """Write what the trainer reads, except the webhook's address, which the runner knows.

    `auto_precision` as in `trainer_config`. Raises InputError `needs_gpu`.
    """
    write_json(
        workdir.config,
        trainer_config(config, base=base, install=install, workdir=workdir, auto_precision=auto_precision),
    )
    write_json(workdir.backends, data_backends(config, workdir))
    write_json(workdir.prompts, sample_prompts(config))
    write_json(workdir.triggers, {})


async def start(
    workdir: Workdir, install: TrainerInstall, *, job_id: str, resumed_at: int = 0, grace: float = GRACE_SECONDS
) -> RunnerHandle:
    """Start the trainer in a prepared `workdir`, under a runner that outlives us.

    Files of an earlier run are kept as `run-N`; the trainer resumes from its newest training checkpoint, which is
    that of step `resumed_at` (0: there is none).
    Raises ConflictError `trainer_running`, EngineError `trainer_not_started`, RetryableError
    `trainer_start_slow` when it took too long; nothing of it is left then.
    """
    earlier = recall(workdir)
    if earlier is not None and not earlier.gone():
        raise ConflictError("A trainer already runs in this folder.", code="trainer_running", value=str(workdir.root))
    _archive(workdir)
    if resumed_at:
        await asyncio.to_thread(relocate, workdir, resumed_at)
    spec = {
        "argv": [str(install.python), str(install.train_py)],
        "env": environment(install, workdir, job_id=job_id, inherited=dict(os.environ)),
        "grace_seconds": grace,
        "webhook": webhook_config(),
        "resumed_at": resumed_at,
    }
    write_json(workdir.spec, spec)
    await _launch(workdir)
    handle = recall(workdir)
    if handle is None:
        raise _not_started(workdir)
    return handle


def recall(workdir: Workdir) -> RunnerHandle | None:
    """The newest run in `workdir`, alive or not; None if there never was one."""
    try:
        value: dict[str, Any] = json.loads(workdir.runner.read_text())
    except FileNotFoundError:
        return None
    return RunnerHandle(
        workdir,
        boot_id=value["boot_id"],
        pid=value["pid"],
        start=value["start"],
        trainer_pid=value["trainer_pid"],
        started_at=value["started_at"],
    )


def job_of_run(workdir: Workdir) -> str | None:
    """The job that the newest run in `workdir` was started for; None if there never was one."""
    env: dict[str, str] = _spec(workdir).get("env", {})
    return env.get("SIMPLETUNER_JOB_ID")


def resumed_step(workdir: Workdir) -> int:
    """The step that the newest run in `workdir` was to resume at, which it says itself only once all is loaded."""
    step: int = _spec(workdir).get("resumed_at", 0)
    return step


def _spec(workdir: Workdir) -> dict[str, Any]:
    """What the newest run was started with; empty if there never was one."""
    try:
        value: dict[str, Any] = json.loads(workdir.spec.read_text())
    except FileNotFoundError:
        return {}
    return value


def find(workdir: Workdir) -> RunnerHandle | None:
    """The run that goes on in `workdir`, whoever started it; None if none does."""
    handle = recall(workdir)
    return handle if handle is not None and handle.alive() else None


async def _launch(workdir: Workdir) -> None:
    with (workdir.run / "runner.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "api.trainer.runner",
            str(workdir.root),
            cwd=PROJECT_ROOT,  # where the package `api` is
            env={"PATH": os.defpath},  # it needs nothing of ours, least of all our secrets
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        async with asyncio.timeout(START_SECONDS):
            code = await process.wait()
    except TimeoutError as exc:
        await _give_up(process, workdir)
        raise RetryableError(
            f"The trainer's runner was not ready after {START_SECONDS:.0f} s.",
            code="trainer_start_slow",
            hint="The machine or its disk is very busy.",
        ) from exc
    if code != 0:
        raise _not_started(workdir)


async def _give_up(process: asyncio.subprocess.Process, workdir: Workdir) -> None:
    """Leave nothing of a start: the kernel kills a runner that is not ready with the process that waits for it."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
    left = recall(workdir)
    if left is not None:
        await left.stop(0)


def _not_started(workdir: Workdir) -> EngineError:
    log = (workdir.run / "runner.log").read_text(errors="replace").strip()
    return EngineError(
        f"The trainer could not be started: {log.splitlines()[-1] if log else 'its runner said nothing'}",
        code="trainer_not_started",
        hint="Run `masuka doctor`; `masuka install simpletuner` repairs the installation.",
    )


def _archive(workdir: Workdir) -> None:
    """Move the files of an earlier run aside."""
    if workdir.run.exists():
        number = 1 + sum(1 for _ in workdir.root.glob("run-*"))
        workdir.run.rename(Path(f"{workdir.run}-{number}"))
