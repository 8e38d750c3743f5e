"""Run under the trainer's Python: says how far one weighted padding token is from the 232 that ComfyUI really gives."""

import sys
from pathlib import Path

import torch
from diffusers import FluxTransformer2DModel

from api.selftest.training import flow, weights
from api.selftest.training.text import T5_WIDTH, TEXT_TOKENS

COMFYUI_TOKENS = 256
IMAGE_TOKENS = flow.places(8).shape[0]


def velocity(transformer: FluxTransformer2DModel, text: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return transformer(
        hidden_states=torch.randn(2, IMAGE_TOKENS, 64, generator=generator),
        encoder_hidden_states=text,
        pooled_projections=torch.randn(2, 32, generator=generator),
        timestep=torch.tensor([0.9, 0.3]),
        guidance=torch.full((2,), 3.5),
        img_ids=flow.places(8),
        txt_ids=torch.zeros(text.shape[1], 3),
        joint_attention_kwargs={} if bias is None else {"attention_mask": bias},
        return_dict=False,
    )[0]


def main(folder: Path) -> None:
    transformer = weights.load(FluxTransformer2DModel, folder)
    text = torch.randn(2, TEXT_TOKENS, T5_WIDTH, generator=torch.Generator().manual_seed(2))
    padded = torch.cat([text, text[:, -1:].expand(-1, COMFYUI_TOKENS - TEXT_TOKENS, -1)], dim=1)
    count = torch.full((2,), COMFYUI_TOKENS - TEXT_TOKENS + 1.0)
    with torch.no_grad():
        truth = velocity(transformer, padded, None)
        weighted = velocity(transformer, text, flow.padding_bias(count, TEXT_TOKENS, TEXT_TOKENS + IMAGE_TOKENS))
        unweighted = velocity(transformer, text, None)
    for drawn in (weighted, unweighted):
        sys.stdout.write(f"{float((drawn - truth).abs().mean() / truth.abs().mean()):.6f}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
