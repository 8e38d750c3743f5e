"""What the tests of the real SimpleTuner share: photos, a prepared folder, a run and how it went."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from api.domain.engine import InstalledBase, TrainerInstall
from api.domain.training import FluxDefaults, FluxTrainingRequest
from api.trainer.events import Event, follow
from api.trainer.outcome import Outcome, outcome
from api.trainer.process import prepare
from api.trainer.state import TrainingState, fold
from api.trainer.workdir import Workdir

DEFAULTS = FluxDefaults(learning_rate=5e-3, steps=20, rank=4, alpha=2, resolution=64)
START = Path(__file__).with_name("start_and_leave.py")
FAULTS = Path(__file__).with_name("faults")


@dataclass
class Run:
    """A run that was followed to its end."""

    workdir: Workdir
    events: list[Event] = field(default_factory=list)
    states: list[TrainingState] = field(default_factory=list)
    outcome: Outcome | None = None


@dataclass
class TrainerLab:
    """The installed SimpleTuner with flux-tiny."""

    install: TrainerInstall
    base: InstalledBase

    def with_fault(self, fault: str) -> TrainerInstall:
        """The same trainer, to which that happens: NAME:NUMBER of `faults/sitecustomize.py`."""
        env = self.install.env
        path = ":".join(filter(None, (env.get("PYTHONPATH"), str(FAULTS))))
        return replace(self.install, env={**env, "PYTHONPATH": path, "MASUKA_TRAINER_FAULT": fault})

    def prepare(self, folder: Path, *, photos: int = 5, **choices: Any) -> Workdir:
        """A folder ready to train: photos of three shapes, so three buckets, two of them with a single photo."""
        workdir = Workdir(folder)
        workdir.dataset.mkdir(parents=True)
        for number, size in zip(range(photos), [(96, 96), (160, 48), (48, 160), (80, 80), (64, 64)], strict=False):
            photo = Image.new("RGB", size, (20 * number, 80, 200))
            ImageDraw.Draw(photo).ellipse([10, 10, 50, 50], fill=(250, 40 * number, 10))
            photo.save(workdir.dataset / f"{number}.png")
            (workdir.dataset / f"{number}.txt").write_text(f"a tkn ball, number {number}")
        config = FluxTrainingRequest.model_validate(choices).resolve(DEFAULTS)
        prepare(workdir, config, base=self.base, install=self.install)
        return workdir


async def follow_to_the_end(workdir: Workdir, when: Callable[[TrainingState], None] = lambda _: None) -> Run:
    """Follow a run, and call `when` with its state after each event."""
    run, state = Run(workdir), TrainingState()
    async for event in follow(workdir):
        state = fold(state, event.message, event.time)
        run.events.append(event)
        run.states.append(state)
        when(state)
    run.outcome = await outcome(workdir)
    return run


def start_command(workdir: Workdir, install: TrainerInstall) -> list[str]:
    """Starts a training in a process of its own, which ends at once."""
    described = {"python": str(install.python), "train_py": str(install.train_py), "version": install.version}
    return [sys.executable, str(START), str(workdir.root), json.dumps(described | {"env": install.env})]
