"""Run under SimpleTuner's Python: a pipeline with random weights, laid out as diffusers saves it.

    python make_random_flux.py TINY TARGET SIZES

TINY is flux-tiny's pipeline, which has all that does not depend on the size; SIZES, in JSON, what is other than there.
"""

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

Sizes = Mapping[str, Mapping[str, Any]]
DEVIATION = 0.02
"""Of the weights, as transformers begins a new model: nothing overflows."""
ONE_FILE = "1TB"
PARTS: Mapping[str, Callable[[dict[str, Any]], torch.nn.Module]] = {
    "transformer": FluxTransformer2DModel.from_config,
    "vae": AutoencoderKL.from_config,
    "text_encoder": lambda config: CLIPTextModel(CLIPTextConfig(**config)),
    "text_encoder_2": lambda config: T5EncoderModel(T5Config(**config)),
}


def without_memory(part: str, tiny: Path, sizes: Sizes) -> torch.nn.Module:
    """The model of its size, on torch's meta device."""
    config = json.loads((tiny / part / "config.json").read_text(encoding="utf-8")) | sizes.get(part, {})
    with torch.device("meta"):
        return PARTS[part](config).to(torch.bfloat16)


def make(tiny: Path, target: Path, sizes: Sizes) -> None:
    """A part at a time, for the largest has 24 GB."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    shutil.copytree(tiny, target, ignore=shutil.ignore_patterns("*.safetensors"))
    for part in PARTS:
        model: Any = without_memory(part, tiny, sizes).to_empty(device=device)
        if part == "text_encoder_2":
            model.tie_weights()  # its embedding has two names
        with torch.no_grad():
            for weight in model.parameters():
                weight.normal_(std=DEVIATION)
        model.save_pretrained(target / part, max_shard_size=ONE_FILE)


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
