"""Follows a trainer by what it writes: shown to clients; what it saves, draws and logs is stored as it appears."""

import asyncio
from collections.abc import Callable
from typing import Any

from api.models import TrainingSession
from api.services.trainings import config_of
from api.tasks.attempt import Attempt
from api.tasks.checkpoints import keeping_checkpoints
from api.tasks.training_records import Records, keeping_records
from api.trainer import process
from api.trainer.events import follow, read_events
from api.trainer.messages import Step
from api.trainer.state import TrainingStage, TrainingState, fold
from api.trainer.workdir import Workdir

TRAINED_PERCENT = 98.0
"""Training fills the bar up to here; checking and storing the LoRA is the rest."""
MOST_RETOLD = 500
"""Of the steps that went by without a worker; evenly spread when there were more."""


async def follow_trainer(
    attempt: Attempt, workdir: Workdir, row: TrainingSession, last_word: Callable[[], None]
) -> None:
    """Until the trainer has ended; what it saves, draws and logs is stored as it appears.

    `last_word` is called, once or more, when it has written all and only ends, which takes it seconds.
    """
    rule = config_of(row).checkpoint_rule
    async with (
        keeping_checkpoints(attempt, workdir, row.id, rule) as keeper,
        keeping_records(attempt, workdir, row) as records,
    ):
        state, offset = await _catch_up(attempt, workdir, row, records)
        keeper.saw([workdir.checkpoint(state.resumed_at).name], [None])
        keeper.saw(state.checkpoints, state.checkpoint_losses)
        if state.completed:
            last_word()
        async for event in follow(workdir, offset):
            state = fold(state, event.message, event.time)
            keeper.saw(state.checkpoints, state.checkpoint_losses)
            records.saw(event)
            if state.completed:
                last_word()
            await attempt.progress(**_shown(state))


async def _catch_up(
    attempt: Attempt, workdir: Workdir, row: TrainingSession, records: Records
) -> tuple[TrainingState, int]:
    """The state after all that the trainer has said before we came, and where in the file that ends.

    Clients are told of the steps that they missed, so that a loss curve has no gap where no worker was.
    """
    resumed_at = await asyncio.to_thread(process.resumed_step, workdir)
    state = TrainingState(step=resumed_at, resumed_at=resumed_at, total_steps=row.config["steps"])
    missed: list[TrainingState] = []
    offset = 0
    while events := await asyncio.to_thread(read_events, workdir, offset):
        for event in events:
            state = fold(state, event.message, event.time)
            records.saw(event)
            if isinstance(event.message, Step) and event.message.step > attempt.step:
                missed.append(state)
        offset = events[-1].offset
    await attempt.retell(_shown(past) for past in missed[:: len(missed) // MOST_RETOLD + 1])
    await attempt.progress(urgent=True, **_shown(state))
    return state, offset


def _shown(state: TrainingState) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "stage": state.stage.value,
        "message": _sentence(state),
        "progress": percent(state.step, state.total_steps),
        "step": state.step,
        "loss": state.loss,
        "learning_rate": state.learning_rate,
        "eta_seconds": None if state.eta_seconds is None else round(state.eta_seconds, 1),
        "step_seconds": None if state.step_seconds is None else round(state.step_seconds, 3),
    }
    return shown | ({"total_steps": state.total_steps} if state.total_steps else {})


def percent(step: int, total_steps: int) -> float:
    return TRAINED_PERCENT * step / total_steps if total_steps else 0.0


def _sentence(state: TrainingState) -> str:
    if state.stage is TrainingStage.TRAINING:
        return f"Step {state.step} of {state.total_steps}"
    if state.stage is TrainingStage.STARTING and state.resumed_at:
        return f"Resuming from step {state.resumed_at}"
    text = state.stage.value.replace("_", " ").capitalize()
    return f"{text} {state.stage_current}/{state.stage_total}" if state.stage_total else text
