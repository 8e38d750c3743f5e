"""What a client sees of a running job: always a whole snapshot, so that a lost one costs nothing."""

from dataclasses import asdict, dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`progress` is 0..100; `loss`, `learning_rate` and `eta_seconds` belong to trainings."""

    status: str
    progress: float = 0.0
    message: str = ""
    stage: str = ""
    step: int = 0
    total_steps: int = 0
    loss: float | None = None
    learning_rate: float | None = None
    eta_seconds: float | None = None
    attempt: int = 1
    error_code: str | None = None
    error_message: str | None = None
    hint: str | None = None

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "progress": round(self.progress, 1)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Snapshot":
        known = {key: data[key] for key in cls.__dataclass_fields__ if key in data}
        return cls(**{"status": "pending", **known})

    def with_changes(self, **changes: Any) -> "Snapshot":
        return replace(self, **changes)
