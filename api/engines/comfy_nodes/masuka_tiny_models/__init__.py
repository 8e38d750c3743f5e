"""Lets really tiny Flux checkpoints load through ComfyUI's standard loader nodes; adds no nodes.

ComfyUI 0.3.75 infers most sizes from a checkpoint and hard-codes some. Each patch below infers those too where the
shapes are tiny, and leaves checkpoints of real size to the original code.
"""

from collections.abc import Mapping
from typing import Any

import comfy.model_detection
import comfy.sd
import torch
from comfy.diffusers_convert import convert_vae_state_dict
from comfy.ldm.models.autoencoder import AutoencodingEngine
from comfy.text_encoders import long_clipl

NODE_CLASS_MAPPINGS: dict[str, type] = {}

FLUX_HIDDEN_SIZE = 3072
SMALLEST_REAL_TEXT_WIDTH = 512
REAL_VAE_CHANNELS = 128
CLIP_HEAD_SIZE = 16
VAE_GROUP_CHANNELS = 4

StateDict = Mapping[str, Any]

detect_unet_config_of_comfy = comfy.model_detection.detect_unet_config
model_options_of_comfy = long_clipl.model_options_long_clip
vae_init_of_comfy = comfy.sd.VAE.__init__


def count(weights: StateDict, pattern: str) -> int:
    number = 0
    while pattern.format(number) in weights:
        number += 1
    return number


# ---- the diffusion model: heads, rotary axes and MLP width are fixed for hidden size 3072 ---


def detect_unet_config(state_dict: StateDict, key_prefix: str, *args: Any, **kwargs: Any) -> Any:
    config = detect_unet_config_of_comfy(state_dict, key_prefix, *args, **kwargs)
    if config and config.get("image_model") == "flux" and config["hidden_size"] != FLUX_HIDDEN_SIZE:
        block = f"{key_prefix}double_blocks.0."
        head = state_dict[block + "img_attn.norm.query_norm.scale"].shape[0]
        config["num_heads"] = config["hidden_size"] // head
        config["axes_dim"] = [head // 8, head * 7 // 16, head * 7 // 16]  # 16, 56, 56 of the real 128
        config["mlp_ratio"] = state_dict[block + "img_mlp.0.weight"].shape[0] / config["hidden_size"]
    return config


# ---- the text encoders: called once for each file ---

T5_ATTENTION = "encoder.block.0.layer.0.SelfAttention."
T5_FEED_FORWARD = "encoder.block.0.layer.1.DenseReluDense.wi_0.weight"
CLIP_LAYER = "text_model.encoder.layers.{}.mlp.fc1.weight"


def model_options_long_clip(state_dict: StateDict, tokenizer_data: Any, model_options: Any) -> tuple[Any, Any]:
    tokenizer_data, model_options = model_options_of_comfy(state_dict, tokenizer_data, model_options)
    if is_tiny(state_dict, T5_ATTENTION + "q.weight"):
        model_options = {**model_options, "t5xxl_model_config": t5_config(state_dict)}
    elif is_tiny(state_dict, CLIP_LAYER.format(0)):
        config = model_options.get("clip_l_model_config", {}) | clip_config(state_dict)
        model_options = {**model_options, "clip_l_model_config": config}
    return tokenizer_data, model_options


def is_tiny(state_dict: StateDict, key: str) -> bool:
    return key in state_dict and state_dict[key].shape[1] < SMALLEST_REAL_TEXT_WIDTH


def t5_config(state_dict: StateDict) -> dict[str, int]:
    query = state_dict[T5_ATTENTION + "q.weight"].shape
    heads = state_dict[T5_ATTENTION + "relative_attention_bias.weight"].shape[1]
    return {
        "d_model": query[1],
        "num_heads": heads,
        "d_kv": query[0] // heads,
        "d_ff": state_dict[T5_FEED_FORWARD].shape[0],
        "num_layers": count(state_dict, "encoder.block.{}.layer.0.layer_norm.weight"),
        "vocab_size": state_dict["shared.weight"].shape[0],
    }


def clip_config(state_dict: StateDict) -> dict[str, int]:
    inner, width = state_dict[CLIP_LAYER.format(0)].shape
    return {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_attention_heads": max(1, width // CLIP_HEAD_SIZE),
        "num_hidden_layers": count(state_dict, CLIP_LAYER),
        "projection_dim": width,
    }


# ---- the VAE: channels, levels and norm groups are fixed ---

FIRST_CONVOLUTION = "encoder.conv_in.weight"
loading: dict[str, StateDict] = {}
"""The state dict of the VAE that is being built: `tiny_engine` is not told it."""


def vae_init(self: Any, sd: StateDict | None = None, *args: Any, **kwargs: Any) -> None:
    if sd and "decoder.up_blocks.0.resnets.0.norm1.weight" in sd:
        sd = convert_vae_state_dict(sd)
    loading["vae"] = sd or {}
    try:
        vae_init_of_comfy(self, sd, *args, **kwargs)
    finally:
        loading.clear()


def tiny_engine(*args: Any, **kwargs: Any) -> Any:
    """`AutoencodingEngine`, with the sizes of the checkpoint where it is tiny."""
    weights = loading.get("vae", {})
    channels = weights[FIRST_CONVOLUTION].shape[0] if FIRST_CONVOLUTION in weights else REAL_VAE_CHANNELS
    if channels >= REAL_VAE_CHANNELS:
        return AutoencodingEngine(*args, **kwargs)
    for part in ("encoder_config", "decoder_config"):
        config = kwargs.get(part, {})
        if config.get("target", "").startswith("comfy.ldm.modules.diffusionmodules.model."):
            kwargs[part] = {**config, "params": config["params"] | vae_sizes(weights, channels)}
    engine = AutoencodingEngine(*args, **kwargs)
    # 32 groups of one channel each would be an instance norm, which loses the picture's colours.
    for layer in engine.modules():
        if isinstance(layer, torch.nn.GroupNorm):
            layer.num_groups = max(1, channels // VAE_GROUP_CHANNELS)
    return engine


def vae_sizes(weights: StateDict, channels: int) -> dict[str, Any]:
    level = "encoder.down.{}.block.0.conv1.weight"
    return {
        "ch": channels,
        "ch_mult": [weights[level.format(i)].shape[0] // channels for i in range(count(weights, level))],
        "num_res_blocks": count(weights, "encoder.down.0.block.{}.conv1.weight"),
    }


comfy.model_detection.detect_unet_config = detect_unet_config
long_clipl.model_options_long_clip = model_options_long_clip
comfy.sd.VAE.__init__ = vae_init
comfy.sd.AutoencodingEngine = tiny_engine
