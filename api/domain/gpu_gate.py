"""Who may use a worker's GPU now. Pure: what is free is measured by others."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from api.domain.job import Kind

PICTURES_AT_ONCE = 2
"""So that ComfyUI, which draws one after another, always has the next prompt queued while one renders."""
PICTURES_BESIDE_A_TRAINING = 1
MARGIN_GB = 1.0
"""What must stay free beyond the needs: they are estimates, and memory comes in pieces."""


@dataclass(frozen=True, slots=True)
class Memory:
    """In GiB: of the GPU, or of the machine where there is none."""

    free_gb: float
    pictures_gb: float = 0.0
    """What ComfyUI holds, which is there for pictures."""

    @property
    def for_pictures_gb(self) -> float:
        return self.free_gb + self.pictures_gb

    def fits(self, need_gb: float) -> bool:
        """Beside everything that is there."""
        return need_gb + MARGIN_GB <= self.free_gb


@dataclass(frozen=True, slots=True)
class Use:
    """What a job wants of the GPU."""

    job_id: UUID
    kind: Kind
    need_gb: float = 0.0
    memory: Memory | None = None
    """As it was when the job asked; None where nobody measures, and then nothing is shared with a training."""


class GpuGate:
    """One exclusive job, or a few that share.

    `shares`: a training and a picture may use it together when there is memory for both, else they wait for each other.
    """

    def __init__(self, *, shares: bool = False) -> None:
        self.shares = shares
        self._uses: dict[UUID, Use] = {}

    def admits(self, use: Use) -> bool:
        training = self._training
        if training is None and not use.kind.exclusive:
            return len(self._uses) < PICTURES_AT_ONCE
        if not self._uses:
            return True
        if not self.shares or (training is not None and use.kind.exclusive):
            return False
        return self._beside_training(training, use) if training is not None else self._beside_pictures(use)

    def enter(self, use: Use) -> Callable[[], bool]:
        """Enter; the returned function leaves, and is false when that was done before.

        Raises RuntimeError for a job that is not admitted.
        """
        if not self.admits(use):
            raise RuntimeError(f"the GPU does not admit a {use.kind} job now")
        self._uses[use.job_id] = use
        return lambda: self._leave(use)

    def _leave(self, use: Use) -> bool:
        if self._uses.get(use.job_id) is not use:  # a later attempt at the same job is another use
            return False
        del self._uses[use.job_id]
        return True

    @property
    def shares_with_training(self) -> bool:
        """Whether only pictures can enter while this training goes on."""
        return self.shares and self._training is not None

    @property
    def _training(self) -> Use | None:
        return next((use for use in self._uses.values() if use.kind.exclusive), None)

    def _beside_training(self, training: Use, picture: Use) -> bool:
        """By what is free now and by what will be: a training that has just begun has not yet taken what it needs."""
        if training.memory is None or picture.memory is None or len(self._uses) > PICTURES_BESIDE_A_TRAINING:
            return False
        left_gb = training.memory.for_pictures_gb - training.need_gb
        return picture.need_gb + MARGIN_GB <= min(picture.memory.for_pictures_gb, left_gb)

    def _beside_pictures(self, training: Use) -> bool:
        """ComfyUI has one model loaded at a time, so the largest of its pictures is what it will hold."""
        if training.memory is None:
            return False
        will_hold_gb = max(training.memory.pictures_gb, *(use.need_gb for use in self._uses.values()))
        return training.need_gb + MARGIN_GB <= training.memory.for_pictures_gb - will_hold_gb

    def state(self) -> dict[str, Any]:
        """Who holds the GPU: `mode` is `idle`, `alone` (a training) or `shared`."""
        alone = len(self._uses) == 1 and self._training is not None
        mode = "idle" if not self._uses else "alone" if alone else "shared"
        return {"mode": mode, "jobs": [{"id": str(use.job_id), "kind": use.kind.value} for use in self._uses.values()]}
