"""What is in a LoRA file: its modules, whether they fit a base model, and what the file is called. Pure.

Key layouts by ComfyUI 0.3.75, `comfy/weight_adapter/lora.py` and `comfy/lora.py` (`model_lora_keys_unet`).
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from api.domain.tensor_file import Header, Tensor, invalid
from api.errors import InputError

# How the two matrices of a module are called: down (rank x in), up (out x rank).
_LAYOUTS = (
    (".lora_A.weight", ".lora_B.weight"),
    (".lora.down.weight", ".lora.up.weight"),
    ("_lora.down.weight", "_lora.up.weight"),
    (".lora_down.weight", ".lora_up.weight"),
    (".lora_A.default.weight", ".lora_B.default.weight"),
    (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
    (".lora_A", ".lora_B"),
)
_TEXT_ENCODER = re.compile(r"(lora_te\d?_|text_encoder|lora_prior_te_)")
_EXAMPLES = 3

Targets = Mapping[str, tuple[int, int]]
"""Of a base model: (out, in) of each linear layer, by diffusers' name, or the single file's as `diffusion_model.*`."""


@dataclass(frozen=True, slots=True)
class LoraModule:
    """One pair of matrices."""

    name: str
    """As it stands in the file, with its prefix: what `<name>.alpha` belongs to."""
    rank: int
    out_features: int
    in_features: int

    @property
    def is_text_encoder(self) -> bool:
        return _TEXT_ENCODER.match(self.name) is not None


@dataclass(frozen=True, slots=True)
class LoraMatch:
    """How the modules of a LoRA fit a base model; text encoder modules are not looked at."""

    matched: int
    unknown: tuple[str, ...]
    """Modules that the base model does not have."""
    misshapen: tuple[str, ...]
    """Modules whose shape is another one there, as text with both shapes."""


def lora_modules(header: Header) -> tuple[LoraModule, ...]:
    """The modules of a LoRA, by name. Raises InputError `lora_invalid` if it has none or half of one."""
    pairs: dict[str, dict[int, Tensor]] = {}
    for key, tensor in header.tensors.items():
        if (part := _part(key)) is not None:
            pairs.setdefault(part[0], {})[part[1]] = tensor
    if not pairs:
        raise invalid("it has no LoRA matrices")
    return tuple(_module(name, matrices) for name, matrices in sorted(pairs.items()))


def match_modules(modules: Iterable[LoraModule], targets: Targets) -> LoraMatch:
    """Which modules find their place in a base model, by ComfyUI's rules."""
    places = {alias: shape for name, shape in targets.items() for alias in _aliases(name)}
    matched, unknown, misshapen = 0, [], []
    for module in modules:
        if module.is_text_encoder:
            continue
        place = places.get(module.name)
        if place is None:
            unknown.append(module.name)
        elif place != (module.out_features, module.in_features):
            misshapen.append(f"{module.name}: {module.out_features}x{module.in_features}, not {place[0]}x{place[1]}")
        else:
            matched += 1
    return LoraMatch(matched, tuple(unknown), tuple(misshapen))


def require_match(modules: Iterable[LoraModule], targets: Targets, *, base_model: str) -> None:
    """Raise InputError `lora_keys_mismatch` unless every module fits: ComfyUI skips the others without an error."""
    match = match_modules(modules, targets)
    wrong = (*match.misshapen, *match.unknown)
    if wrong or not match.matched:
        examples = "; ".join(wrong[:_EXAMPLES]) or "it has modules for text encoders only"
        raise InputError(
            f"{len(wrong)} modules of the LoRA do not fit the base model {base_model}: {examples}.",
            code="lora_keys_mismatch",
            value=list(wrong[:_EXAMPLES]),
            hint="The LoRA was made for another base model, or in a form that ComfyUI does not load.",
        )


def alpha_key(module: LoraModule) -> str:
    """Where ComfyUI looks for a module's alpha; without it, it takes alpha = rank."""
    return f"{module.name}.alpha"


def content_name(name: str, sha256: str) -> str:
    """A file name that says whose content it is: ComfyUI keeps the old weights of a name that is overwritten."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60].rstrip("-") or "lora"
    return f"{slug}-{sha256[:8]}.safetensors"


def _part(key: str) -> tuple[str, int] | None:
    """(module, 0 for down or 1 for up) of a matrix's key; None for every other key."""
    for layout in _LAYOUTS:
        for index, suffix in enumerate(layout):
            if key.endswith(suffix):
                return key.removesuffix(suffix), index
    return None


def _module(name: str, matrices: dict[int, Tensor]) -> LoraModule:
    if len(matrices) < 2:
        raise invalid(f"module {name} has only one of its two matrices")
    down, up = matrices[0].shape, matrices[1].shape
    if len(down) < 2 or len(up) < 2 or down[0] != up[1] or down[0] == 0:
        raise invalid(f"the matrices of module {name} do not fit each other: {down} and {up}")
    return LoraModule(name, rank=down[0], out_features=up[0], in_features=math.prod(down[1:]))


def _aliases(target: str) -> Iterable[str]:
    """What ComfyUI calls a layer in a LoRA."""
    if target.startswith("diffusion_model."):
        yield target
        yield "lora_unet_" + target.removeprefix("diffusion_model.").replace(".", "_")
    else:
        flat = target.replace(".", "_")
        yield from (f"transformer.{target}", f"lora_transformer_{flat}", f"lycoris_{flat}")
