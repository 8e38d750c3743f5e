"""What Stable Diffusion web UI (A1111) writes into its pictures, and many programs read: prompt, then settings."""

import json
from collections.abc import Mapping
from typing import Any

SAMPLERS = {
    "euler": "Euler",
    "euler_ancestral": "Euler a",
    "heun": "Heun",
    "dpm_2": "DPM2",
    "dpm_2_ancestral": "DPM2 a",
    "lms": "LMS",
    "dpmpp_2s_ancestral": "DPM++ 2S a",
    "dpmpp_sde": "DPM++ SDE",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "ddim": "DDIM",
    "uni_pc": "UniPC",
}
SCHEDULERS = {
    "simple": "Simple",
    "normal": "Normal",
    "karras": "Karras",
    "exponential": "Exponential",
    "sgm_uniform": "SGM Uniform",
    "ddim_uniform": "DDIM",
    "beta": "Beta",
}
_HASH_CHARACTERS = 10
"""Of a file's SHA-256: what Civitai calls AutoV2, and knows a LoRA by."""


def parameters(prompt: str, negative_prompt: str, config: Mapping[str, Any]) -> str:
    """The text for one picture; `config` is its `generation_config`. What is not known is left out."""
    loras = {_stem(lora["file"]): lora for lora in config.get("loras", ())}
    lines = [
        "".join([config.get("prompt_sent", prompt), *(f" <lora:{n}:{lora['scale']}>" for n, lora in loras.items())])
    ]
    if negative_prompt:
        lines.append(f"Negative prompt: {negative_prompt}")
    hashes = {f"lora:{n}": lora["sha256"][:_HASH_CHARACTERS] for n, lora in loras.items() if "sha256" in lora}
    settings = {**_settings(config), "Hashes": json.dumps(hashes) if hashes else None, "Version": "MASUKA"}
    lines.append(", ".join(f"{name}: {value}" for name, value in settings.items() if value is not None))
    return "\n".join(lines)


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    own, output = config.get("parameters", {}), config.get("output", {})
    size = f"{output['width']}x{output['height']}" if "width" in output else None
    sampler, scheduler = own.get("sampler"), own.get("scheduler")
    return {
        "Steps": config.get("num_inference_steps"),
        "Sampler": SAMPLERS.get(sampler, sampler),
        "Schedule type": SCHEDULERS.get(scheduler, scheduler),
        "CFG scale": config.get("true_cfg_scale"),
        "Distilled CFG Scale": config.get("guidance_scale"),
        "Seed": config.get("seed"),
        "Size": size,
        "Model": config.get("base_model"),
        "Denoising strength": own.get("denoise"),
    }


def _stem(file_name: str) -> str:
    return file_name.removesuffix(".safetensors")
