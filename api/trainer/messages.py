"""What SimpleTuner's webhooks say, parsed into values.

Source of the formats: SimpleTuner 3.1.6 and 4.8.0, `helpers/webhooks/events.py`, `helpers/training/trainer.py` and
`train.py`. A message this module does not know is `Ignored`: a newer trainer may say more, and no message stops a run.
"""

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of the run began, went on or ended; `current` of `total` where the trainer counts."""

    key: str
    label: str | None
    status: str
    """`running`, `completed` or `failed`."""
    current: int | None
    total: int | None


@dataclass(frozen=True, slots=True)
class Step:
    """An optimizer step is done. Repeated for the step at which a training checkpoint was saved."""

    step: int
    total: int
    loss: float | None
    learning_rate: float | None
    epoch: int | None
    eta_seconds: float | None
    """Only from 4.8; 3.1.6 does not estimate."""
    resumed_at: int
    """The step of the training checkpoint this run began with, or 0."""


@dataclass(frozen=True, slots=True)
class CheckpointSaved:
    path: str


@dataclass(frozen=True, slots=True)
class ValidationImages:
    """Sample pictures were made; the files are in `output/validation_images`."""

    count: int


@dataclass(frozen=True, slots=True)
class Completed:
    """All steps are done and the final LoRA was written. The trainer's only sign of success: 3.1.6 always exits 0."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The run ended by an exception; 4.8 says it twice, the second time with no text."""

    error: str


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The trainer was stopped by SIGINT."""


@dataclass(frozen=True, slots=True)
class Log:
    severity: str
    """`critical`, `error`, `warning` or `info`."""
    message: str


@dataclass(frozen=True, slots=True)
class Ignored:
    type: str


Message = Stage | Step | CheckpointSaved | ValidationImages | Completed | Failed | Interrupted | Log | Ignored


def parse(body: object) -> Message:
    """The meaning of one webhook body. Never raises."""
    if not isinstance(body, dict):
        return Ignored(type(body).__name__)
    match body.get("type"):
        case "training.status":
            return _status(body)
        case "lifecycle.stage":
            return _stage(body)
        case "training.checkpoint":
            return CheckpointSaved(_text(_dict(body, "checkpoint").get("path")))
        case "training.validation":
            return _validation(body)
        case "error":
            return Failed(_text(body.get("message")) or _text(body.get("title")))
        case "log.message" | "notification":
            return Log(_text(body.get("severity")) or "info", _text(body.get("message")))
        case other:
            return Ignored(_text(other))


def _status(body: dict[str, Any]) -> Message:
    match body.get("status"):
        case "failed":
            return Failed(_text(body.get("error")))
        case "interrupted":
            return Interrupted()
    data, progress = _dict(body, "data"), _dict(body, "progress")
    # The first message of a run has no progress, only the step it starts at.
    step = _integer(progress.get("current", data.get("global_step")))
    total = _integer(progress.get("total", data.get("total_num_steps")))
    if step is None or total is None:
        return Ignored("training.status")
    metrics = _dict(progress, "metrics")
    return Step(
        step=step,
        total=total,
        loss=_number(metrics.get("loss")),
        learning_rate=_number(metrics.get("learning_rate")),  # `data.lr` is always 0.0
        epoch=_integer(metrics.get("epoch")),
        eta_seconds=_number(progress.get("eta_seconds")),
        resumed_at=_integer(data.get("global_resume_step")) or 0,
    )


def _stage(body: dict[str, Any]) -> Message:
    stage = _dict(body, "stage")
    progress = _dict(stage, "progress")
    key, status = _text(stage.get("key")), _text(stage.get("status"))
    if key == "training_complete" and status == "completed":
        return Completed()
    return Stage(
        key=key,
        label=_text(stage.get("label")) or None,
        status=status,
        current=_integer(progress.get("current")),
        total=_integer(progress.get("total")),
    )


def _validation(body: dict[str, Any]) -> ValidationImages:
    images = body.get("images")
    # The runner keeps the number of pictures in place of the pictures.
    return ValidationImages(len(images) if isinstance(images, list) else _integer(images) or 0)


def _dict(body: dict[str, Any], key: str) -> dict[str, Any]:
    value = body.get(key)
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _integer(value: object) -> int | None:
    number = _number(value)
    return None if number is None else int(number)
