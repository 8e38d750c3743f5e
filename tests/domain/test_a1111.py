"""The text that other programs read: every line where they look for it."""

from typing import Any

from api.domain.a1111 import parameters

CONFIG: dict[str, Any] = {
    "base_model": "flux-dev",
    "seed": 7,
    "num_inference_steps": 28,
    "guidance_scale": 3.5,
    "true_cfg_scale": 1.0,
    "prompt_sent": "ohwx, a cat",
    "loras": [{"file": "me-1a2b3c4d.safetensors", "scale": 0.8, "sha256": "ab" * 32}],
    "parameters": {"sampler": "euler", "scheduler": "simple"},
    "output": {"width": 64, "height": 96},
}


def test_prompt_negative_prompt_and_settings_stand_on_lines_of_their_own() -> None:
    assert parameters("a cat", "blur", CONFIG) == (
        "ohwx, a cat <lora:me-1a2b3c4d:0.8>\n"
        "Negative prompt: blur\n"
        "Steps: 28, Sampler: Euler, Schedule type: Simple, CFG scale: 1.0, Distilled CFG Scale: 3.5, Seed: 7, "
        'Size: 64x96, Model: flux-dev, Hashes: {"lora:me-1a2b3c4d": "ababababab"}, Version: MASUKA'
    )


def test_what_is_not_known_is_left_out() -> None:
    assert parameters("a cat", "", {}) == "a cat\nVersion: MASUKA"


def test_a_lora_of_the_canvas_has_no_hash() -> None:
    config = {"loras": [{"file": "by-hand.safetensors", "scale": 1.0}]}
    assert parameters("a cat", "", config) == "a cat <lora:by-hand:1.0>\nVersion: MASUKA"


def test_a_sampler_without_another_name_keeps_its_own() -> None:
    config = {"parameters": {"sampler": "res_multistep", "denoise": 0.6}}
    assert parameters("", "", config) == "\nSampler: res_multistep, Denoising strength: 0.6, Version: MASUKA"
