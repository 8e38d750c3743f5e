"""Trains the VAE, an AutoencoderKL of 1.05 M parameters with 16 latent channels and an eighth of the side.

Its latents have a fixed noise instead of a learnt posterior, so the decoder gets used to small errors in them, which a
small transformer makes. With the encoder frozen the decoder can be trained further at any time: transformers and LoRAs
that were trained on the encoder's latents stay valid.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from api.selftest.training import pool
from api.selftest.training.optimise import Loss, Optimisation, say
from api.selftest.training.pool import Pictures
from api.selftest.training.schedule import Plan

BATCH = 16
LATENT_CHANNELS = 16
LATENT_PIXELS = 8
"""A side of what one place of a latent stands for."""
LATENT_NOISE = 0.12
"""Standard deviation, where that of the latents is 1."""
POSTERIOR_WIDTH = 0.05
"""The same of what the finished encoder says of its certainty; SimpleTuner samples from it."""
WHOLE_MIX: Mapping[str, int] = {"scene": 8, "faced": 4, "doodle": 4}
DECODER_MIX: Mapping[str, int] = {"scene": 9, "faced": 5, "doodle": 2}
"""Pictures of each kind in a batch. The decoder's later training favours what the transformer draws."""


def whole_plan(seconds: float) -> Plan:
    return Plan(seconds, learning_rate=1.5e-3, warm_up_steps=100, average_decay=0.999)


def decoder_plan(seconds: float) -> Plan:
    return Plan(seconds, learning_rate=6e-4, warm_up_steps=100, average_decay=0.999)


def train_whole(vae: AutoencoderKL, pool_folder: Path, optimisation: Optimisation) -> None:
    """Encoder and decoder together, from random weights; afterwards latents have the scale that Flux assumes."""
    optimisation.run(_whole_loss(vae, Batches(pool_folder, WHOLE_MIX)))
    rescale(vae, Batches(pool_folder, {"scene": 500}).next(torch.Generator().manual_seed(0)))


def train_decoder(vae: AutoencoderKL, pool_folder: Path, optimisation: Optimisation) -> None:
    optimisation.run(_decoder_loss(vae, Batches(pool_folder, DECODER_MIX)))


class Batches:
    """Batches of one mix of kinds, -1 to 1, channels first."""

    def __init__(self, pool_folder: Path, mix: Mapping[str, int]) -> None:
        self.parts = [(pool.pictures(pool_folder, kind), count) for kind, count in mix.items()]

    def next(self, random: torch.Generator) -> Tensor:
        picked = [
            pictures[torch.randint(len(pictures), (count,), generator=random).sort().values.numpy()]
            for pictures, count in self.parts
        ]
        return as_tensor(np.concatenate(picked))


def as_tensor(pictures: Pictures) -> Tensor:
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div_(127.5).sub_(1).contiguous()


def picture_loss(drawn: Tensor, true: Tensor) -> Tensor:
    """Of colours and, so that edges are where they belong, of the differences between neighbours."""
    error = drawn.float() - true
    across, down = error[..., 1:] - error[..., :-1], error[..., 1:, :] - error[..., :-1, :]
    return error.abs().mean() + 2 * error.pow(2).mean() + 0.3 * (across.abs().mean() + down.abs().mean())


def rescale(vae: AutoencoderKL, pictures: Tensor) -> None:
    """Fold the scale that training took from each batch into two convolutions, and fix the posterior's width.

    Exact: what the decoder gets to see stays the same.
    """
    first, last = vae.decoder.conv_in, vae.encoder.conv_out
    with torch.no_grad():
        trained_on = 1 / vae.encoder(pictures)[:, :LATENT_CHANNELS].std()
        scale = trained_on / vae.config.scaling_factor
        last.weight[:LATENT_CHANNELS] *= scale
        last.bias[:LATENT_CHANNELS] *= scale
        last.weight[LATENT_CHANNELS:] = 0
        last.bias[LATENT_CHANNELS:] = 2 * math.log(POSTERIOR_WIDTH / vae.config.scaling_factor)
        first.weight *= trained_on / scale


def report_quality(vae: AutoencoderKL, count: int) -> None:
    """The peak signal-to-noise ratio, in dB, over so many pictures of each kind that no training has seen."""
    vae.eval()
    for kind in pool.KINDS:
        pictures, _ = pool.block(kind, pool.HELD_OUT_BLOCK, count)
        with torch.no_grad():
            error = torch.cat([_error(vae, batch) for batch in as_tensor(pictures).split(BATCH)])
        say(f"held out: {kind:6}  {10 * math.log10(4 / float(error.pow(2).mean())):.2f} dB")


def _error(vae: AutoencoderKL, true: Tensor) -> Tensor:
    drawn: Tensor = vae.decoder(vae.encoder(true)[:, :LATENT_CHANNELS])
    return drawn.clamp(-1, 1) - true


def _whole_loss(vae: nn.Module, batches: Batches) -> Loss:
    def loss_of(random: torch.Generator) -> Tensor:
        true = batches.next(random)
        with torch.autocast("cpu", torch.bfloat16):
            mean = vae.encoder(true)[:, :LATENT_CHANNELS]
            # Divided by the batch's own deviation, there is no scale to learn, and nothing to collapse.
            latent = mean / mean.float().std()
            drawn = vae.decoder(latent + LATENT_NOISE * _noise(latent, random))
        centred = mean.float().mean((0, 2, 3)).pow(2).mean()
        return picture_loss(drawn, true) + 1e-3 * centred

    return loss_of


def _decoder_loss(vae: AutoencoderKL, batches: Batches) -> Loss:
    noise = LATENT_NOISE / vae.config.scaling_factor

    def loss_of(random: torch.Generator) -> Tensor:
        true = batches.next(random)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                latent = vae.encoder(true)[:, :LATENT_CHANNELS]
            drawn = vae.decoder(latent + noise * _noise(latent, random))
        return picture_loss(drawn, true)

    return loss_of


def _noise(like: Tensor, random: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=random)
