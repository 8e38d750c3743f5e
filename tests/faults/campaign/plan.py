"""What will be done to the service, decided by a seed alone."""

import random
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Target(StrEnum):
    API = "api"
    CPU_WORKER = "worker-cpu"
    GPU_WORKER = "worker-gpu"
    SUPERVISOR = "supervisor"
    REDIS = "redis"
    COMFYUI = "comfyui"
    SOCKET = "websocket"
    GPU_MEMORY = "gpu-memory"
    DISK = "disk"
    TRAINER = "trainer"
    RUNNER = "runner"
    POSTGRES = "postgres"
    S3 = "s3"


class Action(StrEnum):
    KILL = "kill"
    """SIGKILL."""
    FREEZE = "freeze"
    """SIGSTOP, and SIGCONT some seconds later."""
    HANG = "hang"
    """SIGSTOP, and nobody but the service itself does anything about it."""
    CUT = "cut"
    """Every connection is cut, and new ones are refused for some seconds."""
    DROP = "drop"
    """The connection ends."""
    SILENCE = "silence"
    """The connection stays open, and nothing comes through it any more."""
    EXHAUST = "exhaust"
    """There is none left: of the GPU's memory for one prompt, of the disk for some seconds."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault."""

    target: Target
    action: Action

    def __str__(self) -> str:
        return f"{self.target} {self.action}"


@dataclass(frozen=True, slots=True)
class Fault:
    number: int
    kind: Kind
    in_training: bool
    """It waits until a trainer runs; else it comes while pictures are drawn."""
    delay_seconds: float
    """From the recovery from the last fault, or from the trainer's start."""
    lasts_seconds: float
    """Until it is over, unless that is at once."""


LONGEST_SECONDS = 20.0
LONGEST_DELAY_SECONDS = 3.0
TRAINER_DELAY_SECONDS = 12.0
"""A trainer of flux-tiny lives about 13 s: faults hit all of its life."""
IN_TRAINING_SHARE = 0.1

WEIGHTS: dict[Kind, int] = {
    Kind(Target.API, Action.KILL): 10,
    Kind(Target.API, Action.FREEZE): 4,
    Kind(Target.API, Action.HANG): 2,
    Kind(Target.CPU_WORKER, Action.KILL): 6,
    Kind(Target.CPU_WORKER, Action.FREEZE): 4,
    Kind(Target.CPU_WORKER, Action.HANG): 2,
    Kind(Target.GPU_WORKER, Action.KILL): 12,
    Kind(Target.GPU_WORKER, Action.FREEZE): 8,
    Kind(Target.GPU_WORKER, Action.HANG): 2,
    Kind(Target.SUPERVISOR, Action.KILL): 6,
    Kind(Target.SUPERVISOR, Action.FREEZE): 2,
    Kind(Target.REDIS, Action.KILL): 8,
    Kind(Target.REDIS, Action.FREEZE): 4,
    Kind(Target.REDIS, Action.HANG): 2,
    Kind(Target.COMFYUI, Action.KILL): 10,
    Kind(Target.COMFYUI, Action.FREEZE): 5,
    Kind(Target.SOCKET, Action.DROP): 6,
    Kind(Target.SOCKET, Action.SILENCE): 6,
    Kind(Target.GPU_MEMORY, Action.EXHAUST): 6,
    Kind(Target.DISK, Action.EXHAUST): 4,
    Kind(Target.TRAINER, Action.KILL): 4,
    Kind(Target.TRAINER, Action.FREEZE): 2,
    Kind(Target.RUNNER, Action.KILL): 2,
    Kind(Target.RUNNER, Action.FREEZE): 1,
}
"""How often each kind comes, compared with the others, on the embedded servers."""

OUTSIDE_WEIGHTS: dict[Kind, int] = {
    Kind(target, action): weight
    for target in (Target.REDIS, Target.POSTGRES, Target.S3)
    for action, weight in {Action.KILL: 6, Action.FREEZE: 3, Action.CUT: 6}.items()
}
"""The same of the servers that are not the service's own."""


def kinds_with(outside: Collection[Target]) -> dict[Kind, int]:
    """Every kind of fault, with its weight, for a service with these servers outside."""
    own = {kind: weight for kind, weight in WEIGHTS.items() if kind.target not in outside}
    return own | {kind: weight for kind, weight in OUTSIDE_WEIGHTS.items() if kind.target in outside}


def plan(seed: int, kinds: Mapping[Kind, int] = WEIGHTS) -> Iterator[Fault]:
    """Faults without end, the same for the same seed: first each of `kinds` once, then by their weights."""
    chance = random.Random(seed)
    number, ordered = 0, sorted(kinds, key=str)
    weights = [kinds[kind] for kind in ordered]
    first = chance.sample(ordered, len(ordered))
    while True:
        kind = first[number] if number < len(first) else chance.choices(ordered, weights)[0]
        number += 1
        yield _fault(number, kind, chance)


def _fault(number: int, kind: Kind, chance: random.Random) -> Fault:
    in_training = kind.target in (Target.TRAINER, Target.RUNNER) or chance.random() < IN_TRAINING_SHARE
    if kind.target in (Target.COMFYUI, Target.SOCKET, Target.GPU_MEMORY):
        in_training = False  # there is no ComfyUI then
    delay = chance.uniform(0, TRAINER_DELAY_SECONDS if in_training else LONGEST_DELAY_SECONDS)
    return Fault(number, kind, in_training, round(delay, 3), round(chance.uniform(1, LONGEST_SECONDS), 3))
