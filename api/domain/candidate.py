"""LoRAs of training checkpoints, to choose the best from: which stay when there are too many, and their loss. Pure."""

from collections.abc import Mapping

from api.domain.checkpoint import LOSS_STEPS, Losses, Rule, best, superfluous

NAME_CHARACTERS = 80


def excess(losses: Losses, most: int, rule: Rule) -> list[int]:
    """Which go so that at most `most` stay, by the loss at each step there is.

    First those that the `rule` has no use for, where they are closest, so that the rest is spread evenly. The newest
    is the last to go, before it the best, then the first.
    """
    idle, good = set(superfluous(losses, rule)), best(losses, rule)
    kept, gone = sorted(losses), []

    def worth(index: int) -> tuple[bool, bool, bool, bool, int]:
        step = kept[index]
        is_newest, is_first = index == len(kept) - 1, index == 0
        room = 0 if is_newest or is_first else kept[index + 1] - kept[index - 1]
        return is_newest, step in good, is_first, step not in idle, room

    while len(kept) > most:
        gone.append(kept.pop(min(range(len(kept)), key=worth)))
    return gone


def loss_at(losses: Mapping[int, float], step: int) -> float | None:
    """The mean of the last LOSS_STEPS steps up to this one, of those whose loss was told; None without any."""
    near = [loss for at, loss in losses.items() if step - LOSS_STEPS < at <= step]
    return sum(near) / len(near) if near else None


def shown_name(name: str, step: int) -> str:
    """What the LoRA of a step is called unless it is given a name."""
    return f"{name[:NAME_CHARACTERS].rstrip()} step {step}"
