"""The modules of LoRA files in the layouts that trainers write."""

import pytest

from api.domain.lora_file import (
    LoraMatch,
    LoraModule,
    alpha_key,
    content_name,
    lora_modules,
    match_modules,
    require_match,
)
from api.domain.tensor_file import Header, Tensor
from api.errors import InputError

TARGETS = {
    "transformer_blocks.0.attn.to_q": (8, 6),
    "transformer_blocks.0.attn.to_out.0": (8, 8),
    "diffusion_model.double_blocks.0.img_attn.qkv": (24, 6),
}


def header(**shapes: tuple[int, ...]) -> Header:
    return Header({name: Tensor("F32", shape, 0, 0) for name, shape in shapes.items()}, {})


def module(name: str, out: int = 8, inner: int = 6) -> LoraModule:
    return LoraModule(name, rank=4, out_features=out, in_features=inner)


@pytest.mark.parametrize(
    ("down", "up"),
    [
        (".lora_A.weight", ".lora_B.weight"),
        (".lora.down.weight", ".lora.up.weight"),
        ("_lora.down.weight", "_lora.up.weight"),
        (".lora_down.weight", ".lora_up.weight"),
        (".lora_A.default.weight", ".lora_B.default.weight"),
        (".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
        (".lora_A", ".lora_B"),
    ],
)
def test_every_layout_that_comfyui_reads_is_understood(down: str, up: str) -> None:
    modules = lora_modules(header(**{f"m.to_q{down}": (4, 6), f"m.to_q{up}": (8, 4), "m.to_q.alpha": ()}))

    assert modules == (LoraModule("m.to_q", rank=4, out_features=8, in_features=6),)


def test_layouts_may_be_mixed_as_simpletuner_3_writes_them() -> None:
    modules = lora_modules(
        header(
            **{"b.lora_A.weight": (4, 6), "b.lora_B.weight": (8, 4)},
            **{"a.lora.down.weight": (2, 6), "a.lora.up.weight": (8, 2)},
        )
    )

    assert [(m.name, m.rank) for m in modules] == [("a", 2), ("b", 4)]


def test_a_convolution_counts_all_its_inputs() -> None:
    (found,) = lora_modules(header(**{"c.lora_down.weight": (4, 3, 3, 3), "c.lora_up.weight": (8, 4, 1, 1)}))

    assert (found.rank, found.out_features, found.in_features) == (4, 8, 27)


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        ({}, "no LoRA matrices"),
        ({"model.weight": (8, 6)}, "no LoRA matrices"),
        ({"m.lora_A.weight": (4, 6)}, "only one of its two"),
        ({"m.lora_B.weight": (8, 4)}, "only one of its two"),
        ({"m.lora_A.weight": (4, 6), "m.lora_B.weight": (8, 2)}, "do not fit each other"),
        ({"m.lora_A.weight": (4,), "m.lora_B.weight": (8, 4)}, "do not fit each other"),
        ({"m.lora_A.weight": (4, 6), "m.lora_B.weight": ()}, "do not fit each other"),
        ({"m.lora_A.weight": (0, 6), "m.lora_B.weight": (8, 0)}, "do not fit each other"),
    ],
)
def test_what_is_no_whole_lora_is_refused(shapes: dict[str, tuple[int, ...]], reason: str) -> None:
    with pytest.raises(InputError, match=reason) as caught:
        lora_modules(header(**shapes))

    assert caught.value.code == "lora_invalid"


@pytest.mark.parametrize(
    "name",
    [
        "transformer.transformer_blocks.0.attn.to_q",
        "lora_transformer_transformer_blocks_0_attn_to_q",
        "lycoris_transformer_blocks_0_attn_to_q",
    ],
)
def test_a_module_finds_its_place_under_each_of_its_names(name: str) -> None:
    assert match_modules([module(name)], TARGETS) == LoraMatch(1, (), ())


@pytest.mark.parametrize(
    "name", ["diffusion_model.double_blocks.0.img_attn.qkv", "lora_unet_double_blocks_0_img_attn_qkv"]
)
def test_the_single_files_names_find_their_place_too(name: str) -> None:
    assert match_modules([module(name, out=24)], TARGETS).matched == 1


@pytest.mark.parametrize(
    "name",
    ["diffusion_model.transformer_blocks.0.attn.to_q", "transformer_blocks.0.attn.to_q", "transformer.x", "x"],
)
def test_a_module_that_comfyui_would_skip_is_unknown(name: str) -> None:
    assert match_modules([module(name)], TARGETS) == LoraMatch(0, (name,), ())


def test_a_module_of_another_shape_is_named_with_both_shapes() -> None:
    name = "transformer.transformer_blocks.0.attn.to_q"

    assert match_modules([module(name, out=16)], TARGETS).misshapen == (f"{name}: 16x6, not 8x6",)


@pytest.mark.parametrize("name", ["lora_te1_text_model_x", "text_encoder.layers.0", "lora_te_x", "lora_prior_te_x"])
def test_text_encoder_modules_are_not_the_base_models_affair(name: str) -> None:
    assert module(name).is_text_encoder
    assert match_modules([module(name)], TARGETS) == LoraMatch(0, (), ())


def test_a_lora_that_fits_passes() -> None:
    fits = [module("transformer.transformer_blocks.0.attn.to_q"), module("lora_te1_x")]

    require_match(fits, TARGETS, base_model="flux-tiny")


def test_a_lora_of_another_base_model_is_refused_with_examples() -> None:
    wrong = [module(f"transformer.other.{number}") for number in range(5)]
    wrong.append(module("transformer.transformer_blocks.0.attn.to_q", inner=7))

    with pytest.raises(InputError, match=r"6 modules of the LoRA do not fit the base model flux-dev") as caught:
        require_match(wrong, TARGETS, base_model="flux-dev")

    assert caught.value.code == "lora_keys_mismatch"
    assert caught.value.value == [
        "transformer.transformer_blocks.0.attn.to_q: 8x7, not 8x6",
        "transformer.other.0",
        "transformer.other.1",
    ]


def test_a_lora_for_text_encoders_alone_is_refused() -> None:
    with pytest.raises(InputError, match="text encoders only"):
        require_match([module("lora_te1_x")], TARGETS, base_model="flux-dev")


def test_alpha_stands_beside_its_module() -> None:
    assert alpha_key(module("transformer.a.to_q")) == "transformer.a.to_q.alpha"


@pytest.mark.parametrize(
    ("name", "file_name"),
    [
        ("My Cat, 2nd try!", "my-cat-2nd-try-0123abcd.safetensors"),
        ("../../etc/passwd", "etc-passwd-0123abcd.safetensors"),
        ("Ünïcödé", "n-c-d-0123abcd.safetensors"),
        ("猫", "lora-0123abcd.safetensors"),
        ("", "lora-0123abcd.safetensors"),
        ("x" * 200, f"{'x' * 60}-0123abcd.safetensors"),
        ("a" * 59 + "-b", f"{'a' * 59}-0123abcd.safetensors"),
    ],
)
def test_a_file_is_named_by_its_content_and_safely(name: str, file_name: str) -> None:
    assert content_name(name, "0123abcdef" + "0" * 54) == file_name
