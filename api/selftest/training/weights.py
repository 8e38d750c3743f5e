"""The trained parts of flux-tiny as files: `config.json` says the sizes, the weights beside it are bf16."""

import json
from pathlib import Path
from typing import TypeVar

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from safetensors.torch import load_file, save_file
from torch import nn

WEIGHTS = "diffusion_pytorch_model.safetensors"
Part = TypeVar("Part", AutoencoderKL, FluxTransformer2DModel)


def build(kind: type[Part], folder: Path) -> Part:
    """A new one with the sizes of the folder's configuration."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return kind.from_config(config)


def load(kind: type[Part], folder: Path) -> Part:
    """The saved one, in single precision."""
    part = build(kind, folder)
    part.load_state_dict({name: value.float() for name, value in load_file(folder / WEIGHTS).items()})
    return part


def save(part: nn.Module, folder: Path) -> None:
    tensors = {name: value.detach().to(torch.bfloat16).contiguous() for name, value in part.state_dict().items()}
    unfinished = folder / f".{WEIGHTS}"
    save_file(tensors, unfinished, metadata={"format": "pt"})
    unfinished.replace(folder / WEIGHTS)
