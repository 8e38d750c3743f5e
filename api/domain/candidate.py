"""LoRAs of training checkpoints, to choose the best from: which stay when there are too many, and their loss. Pure."""

from collections.abc import Mapping, Sequence

from api.domain.checkpoint import LOSS_STEPS

NAME_CHARACTERS = 80


def excess(steps: Sequence[int], most: int) -> list[int]:
    """Which go so that at most `most` stay, spread evenly; the first and the newest are the last to go."""
    kept, gone = sorted(steps), []
    while len(kept) > most:
        inner = range(1, len(kept) - 1)
        closest = min(inner, key=lambda index: kept[index + 1] - kept[index - 1], default=0)
        gone.append(kept.pop(closest))
    return gone


def loss_at(losses: Mapping[int, float], step: int) -> float | None:
    """The mean of the last LOSS_STEPS steps up to this one, of those whose loss was told; None without any."""
    near = [loss for at, loss in losses.items() if step - LOSS_STEPS < at <= step]
    return sum(near) / len(near) if near else None


def shown_name(name: str, step: int) -> str:
    """What the LoRA of a step is called unless it is given a name."""
    return f"{name[:NAME_CHARACTERS].rstrip()} step {step}"
