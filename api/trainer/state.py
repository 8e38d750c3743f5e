"""How far a training is: the messages of its run, folded one by one into one value."""

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from api.domain.checkpoint import smoothed
from api.trainer.messages import CheckpointSaved, Completed, Failed, Interrupted, Message, Stage, Step

SMOOTHING = 0.1
"""Weight of the newest step in the mean duration of a step."""


class TrainingStage(StrEnum):
    """What the trainer is doing, in words that stay the same whatever its version calls it."""

    STARTING = "starting"
    READING_DATASET = "reading_dataset"
    ENCODING_CAPTIONS = "encoding_captions"
    ENCODING_IMAGES = "encoding_images"
    LOADING_MODEL = "loading_model"
    TRAINING = "training"
    SAVING_CHECKPOINT = "saving_checkpoint"
    MAKING_SAMPLES = "making_samples"
    SAVING_MODEL = "saving_model"
    DONE = "done"


_STAGES = {
    "init_data_backend": TrainingStage.READING_DATASET,
    "init_text_embed_cache": TrainingStage.ENCODING_CAPTIONS,
    "init_cache_text_embeds_status_update": TrainingStage.ENCODING_CAPTIONS,
    "init_vae_cache": TrainingStage.ENCODING_IMAGES,
    "init_cache_vae_processing_complete": TrainingStage.ENCODING_IMAGES,
    "init_load_base_model": TrainingStage.LOADING_MODEL,
    "init_prepare_models": TrainingStage.LOADING_MODEL,
    "init_resume_checkpoint": TrainingStage.LOADING_MODEL,
    "checkpoint_save": TrainingStage.SAVING_CHECKPOINT,
    "validation": TrainingStage.MAKING_SAMPLES,
    "final_validation": TrainingStage.MAKING_SAMPLES,
    "model_save": TrainingStage.SAVING_MODEL,
}
_BETWEEN_STEPS = {TrainingStage.SAVING_CHECKPOINT, TrainingStage.MAKING_SAMPLES}


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Everything the messages so far have told. Start from `TrainingState()`."""

    stage: TrainingStage = TrainingStage.STARTING
    stage_current: int | None = None
    stage_total: int | None = None
    step: int = 0
    total_steps: int = 0
    resumed_at: int = 0
    loss: float | None = None
    mean_loss: float | None = None
    """Smoothed over the last steps of this run, of which `losses` is the number."""
    losses: int = 0
    learning_rate: float | None = None
    epoch: int | None = None
    eta_seconds: float | None = None
    step_seconds: float | None = None
    """Smoothed duration of one step."""
    stepped_at: float | None = None
    """When the newest step was reported, in seconds since the epoch."""
    checkpoints: tuple[str, ...] = ()
    """Folders of the training checkpoints saved by this run, oldest first; the trainer may have pruned some."""
    checkpoint_losses: tuple[float | None, ...] = ()
    """The smoothed loss when each of these was saved."""
    completed: bool = False
    interrupted: bool = False
    failed: bool = False
    error: str = ""
    dataset_failed: bool = False
    """The trainer gave up while it read the dataset."""


def fold(state: TrainingState, message: Message, at: float) -> TrainingState:
    """The state after `message`, which arrived `at` seconds since the epoch."""
    match message:
        case Step():
            return _step(state, message, at)
        case Stage():
            return _stage(state, message)
        case CheckpointSaved(path=path):
            return replace(
                state,
                checkpoints=(*state.checkpoints, path),
                checkpoint_losses=(*state.checkpoint_losses, state.mean_loss),
            )
        case Completed():
            return replace(_enter(state, TrainingStage.DONE), completed=True, eta_seconds=0.0)
        case Interrupted():
            return replace(state, interrupted=True)
        case Failed(error=error):
            return replace(state, failed=True, error=state.error or error)
        case _:
            return state


def _enter(
    state: TrainingState, stage: TrainingStage, current: int | None = None, total: int | None = None
) -> TrainingState:
    return replace(state, stage=stage, stage_current=current, stage_total=total)


def _stage(state: TrainingState, message: Stage) -> TrainingState:
    stage = _STAGES.get(message.key)
    match message.status:
        case "failed":
            return replace(state, dataset_failed=state.dataset_failed or stage is TrainingStage.READING_DATASET)
        case "completed" if stage in _BETWEEN_STEPS:
            done = state.step >= state.total_steps > 0
            return _enter(state, TrainingStage.SAVING_MODEL if done else TrainingStage.TRAINING)
        case "running" if stage is not None:
            return _enter(state, stage, message.current, message.total)
        case _:
            return state


def _step(state: TrainingState, message: Step, at: float) -> TrainingState:
    advanced = message.step - state.step if state.stepped_at is not None else 0
    pace = state.step_seconds
    if advanced > 0 and state.stepped_at is not None:
        newest = (at - state.stepped_at) / advanced
        pace = newest if pace is None else pace + SMOOTHING * (newest - pace)
    eta = message.eta_seconds
    if eta is None and pace is not None:
        eta = pace * (message.total - message.step)
    mean, losses = state.mean_loss, state.losses
    if message.loss is not None and (advanced > 0 or state.stepped_at is None) and math.isfinite(message.loss):
        mean, losses = smoothed(mean, losses, message.loss), losses + 1
    return replace(
        _enter(state, TrainingStage.TRAINING),
        mean_loss=mean,
        losses=losses,
        step=message.step,
        total_steps=message.total,
        resumed_at=message.resumed_at or state.resumed_at,  # the first message of a run does not know yet
        loss=state.loss if message.loss is None else message.loss,
        learning_rate=state.learning_rate if message.learning_rate is None else message.learning_rate,
        epoch=state.epoch if message.epoch is None else message.epoch,
        eta_seconds=eta,
        step_seconds=pace,
        stepped_at=state.stepped_at if state.stepped_at is not None and advanced == 0 else at,
    )
