"""Every linear layer of a FLUX transformer, from its few numbers: a LoRA is known by them without any weights. Pure.

Names and shapes of `FluxTransformer2DModel` in diffusers, and those of the single file that ComfyUI reads.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from api.domain.lora_file import Targets

_TIME_CHANNELS = 256


@dataclass(frozen=True, slots=True)
class FluxSize:
    hidden: int
    double: int
    """Blocks with a stream for the picture and one for the text."""
    single: int
    text: int
    """Features of the long text encoder."""
    pooled: int
    """Features of the short one."""
    channels: int = 64


FLUX_DEV = FluxSize(hidden=3072, double=19, single=38, text=4096, pooled=768)
FLUX_TINY = FluxSize(hidden=128, double=4, single=4, text=64, pooled=32)
SIZES = {"flux-dev": FLUX_DEV, "flux-tiny": FLUX_TINY}
"""By the name of the base model."""


def flux_targets(size: FluxSize) -> Targets:
    """Both names of each layer, as in `Targets`."""
    single_file = {f"diffusion_model.{name}": shape for name, shape in _single_file(size)}
    return {**dict(_diffusers(size)), **single_file}


def _diffusers(size: FluxSize) -> Iterator[tuple[str, tuple[int, int]]]:
    wide = size.hidden
    yield from (("x_embedder", (wide, size.channels)), ("context_embedder", (wide, size.text)))
    for name, inner in (("timestep", _TIME_CHANNELS), ("guidance", _TIME_CHANNELS), ("text", size.pooled)):
        yield f"time_text_embed.{name}_embedder.linear_1", (wide, inner)
        yield f"time_text_embed.{name}_embedder.linear_2", (wide, wide)
    for block in (f"transformer_blocks.{n}" for n in range(size.double)):
        attention = ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
        yield from ((f"{block}.attn.{name}", (wide, wide)) for name in attention)
        for stream in ("", "_context"):
            yield f"{block}.norm1{stream}.linear", (6 * wide, wide)
            yield f"{block}.ff{stream}.net.0.proj", (4 * wide, wide)
            yield f"{block}.ff{stream}.net.2", (wide, 4 * wide)
    for block in (f"single_transformer_blocks.{n}" for n in range(size.single)):
        yield from ((f"{block}.attn.{name}", (wide, wide)) for name in ("to_q", "to_k", "to_v"))
        yield f"{block}.norm.linear", (3 * wide, wide)
        yield f"{block}.proj_mlp", (4 * wide, wide)
        yield f"{block}.proj_out", (wide, 5 * wide)
    yield from (("norm_out.linear", (2 * wide, wide)), ("proj_out", (size.channels, wide)))


def _single_file(size: FluxSize) -> Iterator[tuple[str, tuple[int, int]]]:
    wide = size.hidden
    yield from (("img_in", (wide, size.channels)), ("txt_in", (wide, size.text)))
    for name, inner in (("time", _TIME_CHANNELS), ("guidance", _TIME_CHANNELS), ("vector", size.pooled)):
        yield f"{name}_in.in_layer", (wide, inner)
        yield f"{name}_in.out_layer", (wide, wide)
    for block in (f"double_blocks.{n}" for n in range(size.double)):
        for stream in ("img", "txt"):
            yield f"{block}.{stream}_mod.lin", (6 * wide, wide)
            yield f"{block}.{stream}_attn.qkv", (3 * wide, wide)
            yield f"{block}.{stream}_attn.proj", (wide, wide)
            yield f"{block}.{stream}_mlp.0", (4 * wide, wide)
            yield f"{block}.{stream}_mlp.2", (wide, 4 * wide)
    for block in (f"single_blocks.{n}" for n in range(size.single)):
        yield f"{block}.linear1", (7 * wide, wide)
        yield f"{block}.linear2", (wide, 5 * wide)
        yield f"{block}.modulation.lin", (3 * wide, wide)
    yield from (("final_layer.linear", (size.channels, wide)), ("final_layer.adaLN_modulation.1", (2 * wide, wide)))
