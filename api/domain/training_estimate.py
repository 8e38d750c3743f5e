"""What a training will take: memory of the GPU and time. Pure, and no more exact than it says.

Sources: SimpleTuner's FLUX quickstart at rank 16 (from 9 GB at 512 px to 12 GB at 1024 px with nf4; 1.4 steps a second
at 512 px, 3.5 s a step at 1024 px on an RTX 4090), and the trainings of this installation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from api.domain.training import FluxTrainingConfig

GB_PER_MEGAPIXEL = 3.8
"""Beyond the quarter of a megapixel that the catalogue's figures are for, with gradient checkpointing."""
BASE_MEGAPIXELS = 512**2 / 1e6
SECONDS_PER_MEGAPIXEL = 3.5
WITHOUT_CHECKPOINTING = 0.7
"""Of the time; the memory is then a multiple, and not foretold."""


@dataclass(frozen=True, slots=True)
class Done:
    """A finished training of the same base model here."""

    seconds: float
    megapixels: float
    """That it has seen in all."""


@dataclass(frozen=True, slots=True)
class TimeEstimate:
    seconds: int
    basis: Literal["measured", "documented"]
    """`measured`: from finished trainings here. `documented`: what SimpleTuner's docs say of an RTX 4090."""


def megapixels(config: FluxTrainingConfig) -> float:
    """That the training sees in all."""
    return config.steps * _per_batch(config) * config.gradient_accumulation_steps


def vram_gb(config: FluxTrainingConfig, weights_gb: float) -> float:
    """`weights_gb`: what the catalogue says of the precision that the base model is held in."""
    return round(weights_gb + max(0.0, _per_batch(config) - BASE_MEGAPIXELS) * GB_PER_MEGAPIXEL, 1)


def time_needed(config: FluxTrainingConfig, done: Sequence[Done], *, documented: bool) -> TimeEstimate | None:
    """From trainings here if there are any; `documented`: the docs' figure is for this base model."""
    speeds = [each.seconds / each.megapixels for each in done if each.megapixels > 0]
    if speeds:
        return TimeEstimate(round(median(speeds) * megapixels(config)), "measured")
    if not documented:
        return None
    factor = 1.0 if config.gradient_checkpointing else WITHOUT_CHECKPOINTING
    return TimeEstimate(round(megapixels(config) * SECONDS_PER_MEGAPIXEL * factor), "documented")


def _per_batch(config: FluxTrainingConfig) -> float:
    return config.batch_size * config.resolution**2 / 1e6
