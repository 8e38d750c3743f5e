"""How a training went, proved: not by an exit code, but by what the trainer said and by the file it left."""

import asyncio
import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from api.errors import InputError
from api.trainer.diagnosis import Failure, RunExit, diagnose, failure
from api.trainer.events import read_events
from api.trainer.lora import LoraFile, check_lora
from api.trainer.process import recall
from api.trainer.state import TrainingState, fold
from api.trainer.workdir import Workdir

LOG_TAIL_BYTES = 64 * 1024


class OutcomeStatus(StrEnum):
    SUCCEEDED = "succeeded"
    CANCELLED = "cancelled"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the newest run in a workdir ended."""

    status: OutcomeStatus
    state: TrainingState
    lora: LoraFile | None
    """The final LoRA, read to the end, when the run succeeded."""
    failure: Failure | None
    log_tail: str


async def outcome(workdir: Workdir) -> Outcome | None:
    """How the newest run ended; None while it goes on, or if there never was one.

    Makes sure first that a run whose runner was killed left no process behind. Raises EngineError `trainer_stuck`.
    """
    handle = recall(workdir)
    if handle is None or (handle.alive() and not workdir.exit.exists()):
        return None
    await handle.stop()  # at once: what is left of a runner that wrote its exit.json is its own end
    return await asyncio.to_thread(_judge, workdir, handle.started_at)


def _judge(workdir: Workdir, started_at: float) -> Outcome:
    end, state, tail = read_exit(workdir), final_state(workdir), log_tail(workdir)
    lora, problem = _final_lora(workdir.final_lora, started_at) if state.completed else (None, None)
    if lora is not None:
        return Outcome(OutcomeStatus.SUCCEEDED, state, lora, None, tail)
    if end is not None and end.requested:
        return Outcome(OutcomeStatus.CANCELLED, state, None, None, tail)
    return Outcome(OutcomeStatus.FAILED, state, None, problem or diagnose(end, state, tail), tail)


def read_exit(workdir: Workdir) -> RunExit | None:
    """What the runner wrote at the end; None if it has not ended or was killed."""
    try:
        return RunExit(**json.loads(workdir.exit.read_text()))
    except FileNotFoundError:
        return None


def final_state(workdir: Workdir) -> TrainingState:
    """The state after all that the newest run has said so far."""
    state, offset = TrainingState(), 0
    while events := read_events(workdir, offset):
        for event in events:
            state = fold(state, event.message, event.time)
        offset = events[-1].offset
    return state


def log_tail(workdir: Workdir, limit: int = LOG_TAIL_BYTES) -> str:
    """The ends of what the trainer printed, errors last; progress bars count as one line each."""
    tails = [_tail(path, limit) for path in (workdir.stdout, workdir.stderr)]
    return "\n".join(tail.rstrip() for tail in tails if tail.strip())


def _final_lora(path: Path, started_at: float) -> tuple[LoraFile | None, Failure | None]:
    """The LoRA at `path` if this run wrote it and it is whole; otherwise why not."""
    try:
        if path.stat().st_mtime < started_at:
            return None, failure("lora_not_written", "The trainer reported success, but wrote no new LoRA.")
        return check_lora(path), None
    except FileNotFoundError:
        return None, failure("lora_not_written", "The trainer reported success, but wrote no LoRA.")
    except InputError as exc:
        code = "training_diverged" if exc.code == "lora_not_finite" else "lora_not_written"
        return None, failure(code, exc.detail)


def _tail(path: Path, limit: int) -> str:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - limit))
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
    # A progress bar writes itself again after each carriage return: its last state is enough.
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
