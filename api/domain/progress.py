"""What a client sees of a running job: always a whole snapshot, so that a lost one costs nothing."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, overload

from api.domain.job import TERMINAL


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`progress` is 0..100; `loss` and `learning_rate` belong to trainings.

    `eta_seconds`: until a training's end, or, for a job that waits, until its turn. `queue_position`: 1 is next.
    `step_seconds`: what a step of the training takes.
    """

    status: str
    progress: float = 0.0
    message: str = ""
    stage: str = ""
    step: int = 0
    total_steps: int = 0
    loss: float | None = None
    learning_rate: float | None = None
    eta_seconds: float | None = None
    step_seconds: float | None = None
    queue_position: int | None = None
    attempt: int = 1
    error_code: str | None = None
    error_message: str | None = None
    hint: str | None = None

    @property
    def ended(self) -> bool:
        """The job will not change any more."""
        return self.status in TERMINAL

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which has no NaN and no infinity: a loss that ran away is null."""
        return {
            **asdict(self),
            "progress": round(self.progress, 1),
            "message": cleaned(self.message),
            "loss": _finite(self.loss),
            "learning_rate": _finite(self.learning_rate),
            "eta_seconds": _finite(self.eta_seconds),
            "step_seconds": _finite(self.step_seconds),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Snapshot":
        known = {key: data[key] for key in cls.__dataclass_fields__ if key in data}
        return cls(**{"status": "pending", **known})

    def with_changes(self, **changes: Any) -> "Snapshot":
        return replace(self, **changes)


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None


@overload
def cleaned(text: str) -> str: ...
@overload
def cleaned(text: None) -> None: ...
def cleaned(text: str | None) -> str | None:
    """What an engine said, without what a database cannot hold: NUL and halves of surrogate pairs."""
    return None if text is None else text.replace("\0", "").encode(errors="replace").decode()
