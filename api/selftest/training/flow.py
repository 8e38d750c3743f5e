"""What the transformer learns, rectified flow, and how its inputs are laid out; no weights, no files.

All far padding tokens of the T5 are identical, and Flux gives text no places: so N of them weigh as much as one token
whose attention logit is higher by ln N. A training with TEXT_TOKENS tokens is therefore exact for the 256 of ComfyUI
and the 512 of SimpleTuner, at a twelfth of the cost.
"""

import math

import torch
from torch import Tensor

MOST_PADDING = 512
_FLUX_SHIFT = 3.16
"""e to the 1.15: how much Flux's schedule favours noise, at the most."""
_GUIDANCE = (1.0, 3.5)
_MOST_GUIDANCE = 5.0
_PATCH = 2


def pack(latent: Tensor) -> Tensor:
    """From (pictures, channels, height, width) to tokens of 2 x 2 places, as FluxPipeline does."""
    count, channels, height, width = latent.shape
    cut = latent.view(count, channels, height // _PATCH, _PATCH, width // _PATCH, _PATCH).permute(0, 2, 4, 1, 3, 5)
    return cut.reshape(count, height * width // _PATCH**2, channels * _PATCH**2)


def unpack(tokens: Tensor, side: int) -> Tensor:
    """Back to latents of that side."""
    count, _, size = tokens.shape
    channels, across = size // _PATCH**2, side // _PATCH
    cut = tokens.view(count, across, across, channels, _PATCH, _PATCH).permute(0, 3, 1, 4, 2, 5)
    return cut.reshape(count, channels, side, side)


def places(side: int) -> Tensor:
    """Of the tokens of a latent of that side, for Flux's rotary embedding."""
    across = side // _PATCH
    ids = torch.zeros(across, across, 3)
    ids[..., 1] += torch.arange(across)[:, None]
    ids[..., 2] += torch.arange(across)[None, :]
    return ids.reshape(-1, 3)


def padding_bias(padding: Tensor, text_tokens: int, tokens: int) -> Tensor:
    """For attention: the last text token counts as so many, each row its own number."""
    bias = torch.zeros(len(padding), 1, 1, tokens)
    bias[:, 0, 0, text_tokens - 1] = padding.log()
    return bias


def draw_padding(count: int, random: torch.Generator) -> Tensor:
    """From 1 to MOST_PADDING, small numbers as likely as large ones."""
    return torch.exp(torch.rand(count, generator=random) * math.log(MOST_PADDING))


def draw_noise_level(count: int, random: torch.Generator) -> Tensor:
    """From 0 to 1: half of them even, half shifted as Flux samples."""
    shift = torch.where(torch.rand(count, generator=random) < 0.5, 1.0, _FLUX_SHIFT)
    return shifted(torch.rand(count, generator=random), shift)


def draw_guidance(count: int, random: torch.Generator) -> Tensor:
    """Half of them the usual values, half anything up to _MOST_GUIDANCE: it is to make no difference."""
    usual = torch.tensor(_GUIDANCE)[torch.randint(len(_GUIDANCE), (count,), generator=random)]
    anything = torch.rand(count, generator=random) * _MOST_GUIDANCE
    return torch.where(torch.rand(count, generator=random) < 0.5, anything, usual)


def noise_levels(steps: int) -> Tensor:
    """Of a sampling in so many steps, from 1 to 0."""
    return shifted(torch.linspace(1, 0, steps + 1), torch.tensor(_FLUX_SHIFT))


def shifted(level: Tensor, shift: Tensor) -> Tensor:
    return shift * level / (1 + (shift - 1) * level)
