"""How much disk a job will need, and what becomes of a trainer whose disk fills up. Pure.

Sizes are upper bounds, from the shapes of the base model's layers; a test compares them with what SimpleTuner writes.
"""

from collections.abc import Collection, Mapping
from enum import Enum, auto

from api.domain.training import FluxTrainingConfig

MB = 10**6
GB = 10**9

WEIGHT_BYTES = 4
"""Of one LoRA parameter in a file of its own: float32, the widest that trainers write."""
STATE_BYTES = 12
"""Of one LoRA parameter in a training checkpoint, besides the weight: two moments and a correction, float32."""
CHECKPOINT_EXTRA_BYTES = MB
"""Of a training checkpoint, whatever the LoRA: random states, sampler states, the list of seen images."""
LORA_COPIES = 3
"""The trainer's final file, ours with its alpha, and the one in ComfyUI's folder."""
CHECKPOINT_LORAS = 20
"""Of which the LoRA is kept in storage, where nothing else is set."""
CAPTION_TOKENS = 512
CAPTION_EXTRA_BYTES = 64_000
LATENT_CHANNELS = 16
PIXELS_PER_LATENT = 64
FLOAT_BYTES = 4
PICTURE_COPIES = 3
"""ComfyUI's, ours, and the stored one."""
PICTURE_EXTRA_BYTES = 4 * MB

HYSTERESIS = 0.25
"""Part of the floor that must be free above it before a frozen trainer goes on: else it would stutter."""

_ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
_CONTEXT = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
_FEED_FORWARD = ("ff.net.0.proj", "ff.net.2", "ff_context.net.0.proj", "ff_context.net.2", "proj_mlp", "proj_out")
_TRAINED = {
    "attention": _ATTENTION,
    "attention+context": _ATTENTION + _CONTEXT,
    "attention+context+feed_forward": _ATTENTION + _CONTEXT + _FEED_FORWARD,
}

Layers = Mapping[str, tuple[int, int]]
"""(out, in) of each linear layer of a base model, by diffusers' name."""


def lora_parameters(config: FluxTrainingConfig, layers: Layers) -> int:
    """How many numbers the LoRA has: rank x (in + out) for each layer that is trained."""
    suffixes = tuple(f".{name}" for name in _TRAINED[config.target_modules])
    return sum(config.rank * sum(shape) for name, shape in layers.items() if name.endswith(suffixes))


def training_bytes(
    config: FluxTrainingConfig,
    layers: Layers,
    image_bytes: Collection[int],
    *,
    stored_here: bool,
    loras_kept: int = CHECKPOINT_LORAS,
) -> int:
    """The most that a training has on this disk at any time.

    `image_bytes` are the sizes of the dataset's files; `stored_here`: the storage is on the same disk; `loras_kept`:
    of how many training checkpoints at most the LoRA stays.
    """
    parameters, stores = lora_parameters(config, layers), int(stored_here)
    checkpoint = parameters * (WEIGHT_BYTES + STATE_BYTES) + CHECKPOINT_EXTRA_BYTES
    # The trainer saves a new one before it removes the oldest, and so do we.
    saved = config.steps // config.checkpoint_interval
    checkpoints = min(config.checkpoints_kept + 1, saved)
    stored = min(config.checkpoint_rule.most(config.steps, config.checkpoint_interval) + 1, saved) * stores
    kept = min(loras_kept + 1, saved) * stores
    loras = parameters * WEIGHT_BYTES * (LORA_COPIES + stores + kept)
    return (
        (checkpoints + stored) * checkpoint
        + loras
        + sum(image_bytes)
        + len(image_bytes) * (_latent_bytes(config) + _caption_bytes(layers))
    )


def _latent_bytes(config: FluxTrainingConfig) -> int:
    return config.resolution**2 // PIXELS_PER_LATENT * LATENT_CHANNELS * FLOAT_BYTES


def _caption_bytes(layers: Layers) -> int:
    _, width = layers["context_embedder"]
    return CAPTION_TOKENS * width * FLOAT_BYTES + CAPTION_EXTRA_BYTES


def picture_bytes(width: int, height: int) -> int:
    """The most that one picture has on this disk while it is made: noise, which no PNG makes smaller."""
    return PICTURE_COPIES * width * height * FLOAT_BYTES + PICTURE_EXTRA_BYTES


class Act(Enum):
    """What to do about a trainer's group of processes now."""

    LEAVE = auto()
    FREEZE = auto()
    THAW = auto()


def act(*, free: int, floor: int, stopped: bool, by_us: bool) -> Act:
    """Freeze below the floor; thaw, whoever stopped it, as soon as there is space.

    `by_us`: this process froze it, so it knows that the space was short a moment ago.
    """
    if not stopped:
        return Act.FREEZE if free < floor else Act.LEAVE
    return Act.THAW if free >= thaw_bytes(floor, by_us=by_us) else Act.LEAVE


def thaw_bytes(floor: int, *, by_us: bool) -> int:
    """What must be free before a stopped trainer goes on."""
    return round(floor * (1 + HYSTERESIS)) if by_us else floor


def shown_bytes(count: int) -> str:
    """For a person: 1.5 GB, 20 MB."""
    return f"{count / GB:.1f} GB" if count >= GB else f"{max(1, round(count / MB))} MB"
