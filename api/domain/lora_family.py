"""For which base model a LoRA was made, from the names and shapes of its modules. Pure.

Names by the trainers that write them (diffusers, kohya, ComfyUI); the numbers that tell families apart are those of the
published models: the text features of Stable Diffusion's cross-attention, the blocks and the width of transformers.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from api.domain.flux_layers import SIZES, flux_targets
from api.domain.lora_file import LoraModule, match_modules, require_match
from api.errors import InputError

MODEL_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "flux-dev": "flux_image",
        "flux-tiny": "flux_image",
        "sd15": "sd_image",
        "sd21": "sd_image",
        "sdxl": "sdxl_image",
        "sd3": "sd3_image",
        "qwen-image": "qwen_image",
        "wan": "wan_video",
        "hunyuan-video": "hunyuan_video",
    }
)
"""By what a LoRA is for: a base model of ours, or a family that is recognised and not drawn with."""

_PREFIX = re.compile(r"^((model\.)?(transformer|diffusion_model|unet)\.|(lora_unet|lora_transformer|lycoris)_)")
_UNET = re.compile(r"(down_blocks|up_blocks|mid_block|input_blocks|output_blocks|middle_block)_")
_CROSS_ATTENTION = re.compile(r"attn2_to_[kv]$")
_UNET_DEPTH = re.compile(r"_transformer_blocks_(\d+)_")
_TEXT_FEATURES = {768: "sd15", 1024: "sd21", 2048: "sdxl"}
_WAN = re.compile(r"blocks_\d+_(self_attn|cross_attn|ffn|attn1|attn2)_")
_QWEN = re.compile(r"transformer_blocks_\d+_(img|txt)_(mlp|mod)_")
_SD3 = re.compile(r"joint_blocks_\d+_")
_SD3_WIDTHS = frozenset({1536, 2432})
_BLOCK = re.compile(r"(single_transformer_blocks|single_blocks|transformer_blocks|double_blocks)_(\d+)_")
_FLUX_WIDTH, _FLUX_DOUBLE, _FLUX_SINGLE = SIZES["flux-dev"].hidden, SIZES["flux-dev"].double, SIZES["flux-dev"].single
_ATTENTION_INPUT = re.compile(r"(attn_to_q|attn_qkv|_linear1)$")


@dataclass(frozen=True, slots=True)
class Kin:
    """What a LoRA is for."""

    name: str
    """The base model, or the family."""

    @property
    def model_type(self) -> str:
        return MODEL_TYPES[self.name]


def kin_of(modules: Sequence[LoraModule]) -> Kin:
    """The base model or family of a LoRA.

    Raises InputError `lora_keys_mismatch` for one that is nearly, and not wholly, for FLUX.1-dev, and
    `lora_family_unknown`.
    """
    own = [module for module in modules if not module.is_text_encoder]
    for name, size in SIZES.items():
        match = match_modules(own, flux_targets(size))
        if match.matched and not match.unknown and not match.misshapen:
            return Kin(name)
    flat = {_flat(module.name): module for module in own}
    family = _unet(flat) if any(map(_UNET.match, flat)) else _transformer(flat)
    if family == "flux-dev":
        require_match(own, flux_targets(SIZES[family]), base_model=family)
    if family is None:
        raise InputError(
            f"It cannot be told for which base model this LoRA was made; its first module is {modules[0].name}.",
            code="lora_family_unknown",
            value=modules[0].name,
            hint="Name the base model with `base_model`, if it is one that is installed here.",
        )
    return Kin(family)


def _flat(name: str) -> str:
    """Trainers' names without their prefix, all with underscores."""
    return _PREFIX.sub("", name).replace(".", "_")


def _unet(flat: Mapping[str, LoraModule]) -> str | None:
    """By the text features that cross-attention reads; without any, only SDXL has blocks so deep."""
    widths = {module.in_features for name, module in flat.items() if _CROSS_ATTENTION.search(name)}
    if len(widths) == 1:
        return _TEXT_FEATURES.get(widths.pop())
    return "sdxl" if not widths and max(_numbers(_UNET_DEPTH, flat), default=0) > 0 else None


def _transformer(flat: Mapping[str, LoraModule]) -> str | None:
    if any(map(_WAN.match, flat)):
        return "wan"
    if any(map(_QWEN.match, flat)):
        return "qwen-image"
    width = next((module.in_features for name, module in flat.items() if _ATTENTION_INPUT.search(name)), None)
    if any(map(_SD3.match, flat)) or width in _SD3_WIDTHS:
        return "sd3"
    blocks = [(found[1], int(found[2])) for found in map(_BLOCK.match, flat) if found]
    if not blocks or width not in (None, _FLUX_WIDTH):
        return None
    # HunyuanVideo has Flux's names and width, and two blocks more of each.
    double = max((number for kind, number in blocks if not kind.startswith("single")), default=0)
    single = max((number for kind, number in blocks if kind.startswith("single")), default=0)
    if double > _FLUX_DOUBLE or single >= _FLUX_SINGLE + 2:
        return "qwen-image" if single == 0 else None
    return "hunyuan-video" if double >= _FLUX_DOUBLE or single >= _FLUX_SINGLE else "flux-dev"


def _numbers(pattern: re.Pattern[str], names: Iterable[str]) -> list[int]:
    return [int(found[1]) for found in map(pattern.search, names) if found]
