"""LoRAs are known by their keys and shapes, in the names of every trainer."""

from typing import get_args

import pytest

from api.domain.flux_layers import FLUX_TINY, flux_targets
from api.domain.lora_family import MODEL_TYPES, kin_of
from api.domain.lora_file import LoraModule
from api.engines import catalogue, locate
from api.errors import InputError
from api.routes.models import ModelType
from api.settings import Settings

HUNYUAN = "transformer.single_transformer_blocks.{}.attn.to_q"


def module(name: str, out: int, inner: int) -> LoraModule:
    return LoraModule(name, rank=4, out_features=out, in_features=inner)


def test_the_layers_of_flux_are_those_of_the_weights(settings: Settings) -> None:
    base = locate.base_model(settings, "flux-tiny")
    weights = locate.base_lora_targets(base)
    own = flux_targets(FLUX_TINY)
    assert {name: shape for name, shape in own.items() if not name.startswith("diffusion_model.")} == weights


@pytest.mark.parametrize(
    ("name", "out", "inner", "base"),
    [
        ("transformer.transformer_blocks.0.attn.to_q", 128, 128, "flux-tiny"),
        ("diffusion_model.single_blocks.3.linear2", 128, 640, "flux-tiny"),
        ("transformer.transformer_blocks.18.attn.to_q", 3072, 3072, "flux-dev"),
        ("transformer.single_transformer_blocks.37.proj_out", 3072, 15360, "flux-dev"),
        ("lora_transformer_single_transformer_blocks_0_norm_linear", 9216, 3072, "flux-dev"),
        ("lora_unet_double_blocks_18_img_attn_qkv", 9216, 3072, "flux-dev"),
        ("diffusion_model.final_layer.adaLN_modulation.1", 6144, 3072, "flux-dev"),
        ("lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k", 320, 768, "sd15"),
        ("unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_v", 640, 1024, "sd21"),
        ("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k", 640, 2048, "sdxl"),
        ("unet.mid_block.attentions.0.transformer_blocks.9.attn1.to_q", 1280, 1280, "sdxl"),
        ("diffusion_model.joint_blocks.0.x_block.attn.qkv", 4608, 1536, "sd3"),
        ("transformer.transformer_blocks.0.attn.to_q", 1536, 1536, "sd3"),
        ("transformer.transformer_blocks.0.attn.to_q", 2432, 2432, "sd3"),
        ("diffusion_model.blocks.0.self_attn.q", 5120, 5120, "wan"),
        ("lora_unet_blocks_39_cross_attn_k", 5120, 5120, "wan"),
        ("transformer.blocks.0.attn2.to_k", 1536, 1536, "wan"),
        ("transformer.transformer_blocks.59.img_mlp.net.2", 3072, 12288, "qwen-image"),
        ("transformer.transformer_blocks.59.attn.to_q", 3072, 3072, "qwen-image"),
        (HUNYUAN.format(39), 3072, 3072, "hunyuan-video"),
        ("diffusion_model.double_blocks.19.img_attn.qkv", 9216, 3072, "hunyuan-video"),
    ],
)
def test_a_lora_is_known_by_its_keys_and_shapes(name: str, out: int, inner: int, base: str) -> None:
    assert kin_of([module("lora_te1_text_model_encoder_layers_0_mlp_fc1", 8, 8), module(name, out, inner)]).name == base


@pytest.mark.parametrize(
    ("name", "out", "inner", "code"),
    [
        ("transformer.transformer_blocks.0.attn.to_nowhere", 3072, 3072, "lora_keys_mismatch"),
        ("diffusion_model.double_blocks.0.img_attn.qkv", 3072, 3072, "lora_keys_mismatch"),
        ("diffusion_model.single_blocks.47.linear1", 36864, 6144, "lora_family_unknown"),
        ("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k", 320, 999, "lora_family_unknown"),
        ("lora_unet_down_blocks_0_attentions_0_proj_in", 320, 320, "lora_family_unknown"),
        ("lora_te1_text_model_encoder_layers_0_mlp_fc1", 8, 8, "lora_family_unknown"),
        ("my.own.layer", 8, 8, "lora_family_unknown"),
    ],
)
def test_what_is_of_no_known_family_is_refused_by_name(name: str, out: int, inner: int, code: str) -> None:
    with pytest.raises(InputError) as caught:
        kin_of([module(name, out, inner)])
    assert caught.value.code == code
    assert name in caught.value.detail


def test_every_family_has_a_type_that_lists_can_be_filtered_by() -> None:
    assert set(MODEL_TYPES.values()) == set(get_args(ModelType))
    assert catalogue.BASE_MODELS.keys() <= MODEL_TYPES.keys()
