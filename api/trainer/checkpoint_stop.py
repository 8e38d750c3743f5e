"""Stops a trainer that is to go on later: with a training checkpoint of its last step where it can be asked for one."""

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api.trainer.checkpoint import newest_whole
from api.trainer.events import read_events
from api.trainer.messages import CheckpointSaved
from api.trainer.process import RunnerHandle
from api.trainer.state import TrainingState, fold
from api.trainer.workdir import Workdir, write_json

SAVE_SECONDS = 8.0
"""A checkpoint is asked for between two steps; one that takes longer is not waited for, for the service must end."""
GRACE_SECONDS = 6.0
POLL_SECONDS = 0.1
SIGNAL_FILE = "SIMPLETUNER_ACCELERATE_SIGNAL_FILE"


@dataclass(frozen=True, slots=True)
class Stopped:
    """Where a training was, and from which step it will go on."""

    step: int
    resumes_from: int

    @property
    def lost(self) -> int:
        """The steps that will be done again."""
        return max(0, self.step - self.resumes_from)


async def stop_at_checkpoint(handle: RunnerHandle) -> Stopped:
    """Stop it and return when it is gone, with a new training checkpoint if it can save one now.

    Raises EngineError `trainer_stuck`.
    """
    workdir = handle.workdir
    state, offset = await asyncio.to_thread(_so_far, workdir)
    if state.step and takes_wishes(workdir):
        await asyncio.to_thread(_ask_for_checkpoint, workdir.triggers)
        await _saved(handle, offset)
    await handle.stop(GRACE_SECONDS)
    state, _ = await asyncio.to_thread(_so_far, workdir)
    resumes_from = await asyncio.to_thread(newest_whole, workdir, {})
    return Stopped(max(state.step, resumes_from), resumes_from)


def _so_far(workdir: Workdir) -> tuple[TrainingState, int]:
    """What the run has said, and where what it says next will begin."""
    state, offset = TrainingState(), 0
    while events := read_events(workdir, offset):
        for event in events:
            state = fold(state, event.message, event.time)
        offset = events[-1].offset
    return state, offset


def takes_wishes(workdir: Workdir) -> bool:
    """Whether the newest run saves and draws when it is asked; SimpleTuner does from version 4.8 on."""
    return SIGNAL_FILE in json.loads(workdir.spec.read_text())["env"]


def _ask_for_checkpoint(triggers: Path) -> None:
    said: dict[str, Any] = json.loads(triggers.read_text())
    write_json(triggers, {**said, "manual_checkpoint": said.get("manual_checkpoint", 0) + 1})


async def _saved(handle: RunnerHandle, offset: int) -> None:
    """Until it says that it has saved, ends, or takes too long."""
    deadline = time.monotonic() + SAVE_SECONDS
    while handle.alive() and time.monotonic() < deadline:
        events = await asyncio.to_thread(read_events, handle.workdir, offset)
        if any(isinstance(event.message, CheckpointSaved) for event in events):
            return
        offset = events[-1].offset if events else offset
        await asyncio.sleep(POLL_SECONDS)
