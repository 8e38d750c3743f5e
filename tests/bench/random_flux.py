"""FLUX.1-dev in its real size with random weights, made on this machine: as heavy as the real one, and no download.

What it draws is noise, and takes as long as a picture does.
"""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from api.engines import gpu, locate, receipt
from api.engines.catalogue import FLUX_DEV, Weights
from api.engines.receipt import Receipt
from api.settings import PROJECT_ROOT, Settings
from tests.bench.stand import engines_dir

MAKER = Path(__file__).with_name("make_random_flux.py")
ENGINES = ("comfyui", "simpletuner", "flux-tiny")
Sizes = Mapping[str, Mapping[str, object]]
"""By the pipeline's parts: what their configurations have other than flux-tiny's."""
REAL: Sizes = {
    "transformer": {
        "num_layers": 19,
        "num_single_layers": 38,
        "num_attention_heads": 24,
        "attention_head_dim": 128,
        "axes_dims_rope": [16, 56, 56],
        "joint_attention_dim": 4096,
        "pooled_projection_dim": 768,
    },
    "vae": {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2, "norm_num_groups": 32},
    "text_encoder": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "projection_dim": 768,
    },
    "text_encoder_2": {
        "d_model": 4096,
        "d_ff": 10_240,
        "d_kv": 64,
        "num_heads": 64,
        "num_layers": 24,
        "num_decoder_layers": 24,
    },
}
"""https://huggingface.co/black-forest-labs/FLUX.1-dev, the `config.json` of each part."""


def make(engines: Path, sizes: Sizes = REAL) -> None:
    """Fill the new folder with it, as `flux-dev`, and with what is installed already, by links."""
    engines.mkdir(parents=True)
    for name in ENGINES:
        (engines / name).symlink_to(engines_dir() / name)
    folder = engines / FLUX_DEV.name
    _run_maker(engines, folder / "diffusers", sizes)
    weights = FLUX_DEV.pick_weights(gpu.largest_vram_gb(gpu.detect()))
    files = {Path(file).parent.name: folder / "models" / file for file in _large_files(weights)}
    links = {
        **{folder / link: folder / source for source, link in FLUX_DEV.links},
        files["diffusion_models"]: folder / "diffusers/transformer/diffusion_pytorch_model.safetensors",
        files["text_encoders"]: folder / "diffusers/text_encoder_2/model.safetensors",
    }
    for link, source in links.items():
        link.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, link)
    receipt.write(folder, Receipt(spec="random weights", version="1", weights=weights.value))


def _large_files(weights: Weights) -> list[str]:
    """The transformer's and T5's, which are other ones with other weights."""
    return [file.target.removeprefix("models/") for file in dict(FLUX_DEV.weight_files)[weights]]


def _run_maker(engines: Path, target: Path, sizes: Sizes) -> None:
    python = locate.simpletuner(Settings(_env_file=None, masuka_engines_dir=engines)).python
    tiny = engines / "flux-tiny" / "diffusers"
    subprocess.run([python, MAKER, tiny, target, json.dumps(sizes)], cwd=PROJECT_ROOT, check=True)
