"""Trains the transformer, a Flux of 3.5 M parameters, on the latents of scenes of two sizes and their captions."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from api.selftest.prompts import HELD_OUT_PAIRS, grid, grid_of_pairs, judge
from api.selftest.shapes import LARGE_SIDE, PICTURE_SIDE
from api.selftest.training import flow, pool
from api.selftest.training.optimise import Loss, say
from api.selftest.training.pool import Caption
from api.selftest.training.schedule import Plan
from api.selftest.training.text import TEXT_TOKENS, Encoded, TextEncoders
from api.selftest.training.vae import LATENT_CHANNELS, LATENT_PIXELS, as_tensor

BATCHES: Mapping[int, int] = {PICTURE_SIDE: 64, LARGE_SIDE: 32}
"""Pictures in a batch, by their side: one costs about as much as the other."""
LARGE_SHARE = 0.4
"""Of the batches."""
SEED = 2
WEIGHT_DECAY = 0.01
_KINDS_OF_A_SIZE = (("scene", "word"), ("large",))
_CHUNK = 25
_SAMPLING_STEPS = 12
_COMFYUI_PADDING = 232
_COMFYUI_GUIDANCE = 3.5


@dataclass(frozen=True, slots=True)
class Examples:
    """What the transformer learns from at one size, encoded once."""

    side: int
    """Of the pictures, in pixels."""
    latents: Tensor
    text: Encoded


def fresh_plan(seconds: float) -> Plan:
    return Plan(seconds, learning_rate=1.5e-3, warm_up_steps=300, average_decay=0.9985)


def further_plan(seconds: float) -> Plan:
    """For one that can draw: slow enough not to unlearn it."""
    return Plan(seconds, learning_rate=5e-4, warm_up_steps=100, average_decay=0.9985)


def zero_outputs(transformer: FluxTransformer2DModel) -> None:
    """Make every block of a new one begin as the identity, and its output as zero (adaLN-zero)."""
    with torch.no_grad():
        for name, weight in transformer.named_parameters():
            if (".linear." in name and "norm" in name) or name.startswith("proj_out."):
                weight.zero_()


def encode_pool(pool_folder: Path, vae: AutoencoderKL, encoders: TextEncoders) -> list[Examples]:
    """Every captioned picture whose caption fits and whose pair of colour and shape is not held out, by size."""
    return [_encode_kinds(pool_folder, kinds, vae, encoders) for kinds in _KINDS_OF_A_SIZE]


def _encode_kinds(pool_folder: Path, kinds: Sequence[str], vae: AutoencoderKL, encoders: TextEncoders) -> Examples:
    latents, texts = [], []
    for kind in kinds:
        captions = pool.captions(pool_folder, kind)
        usable = [i for i, caption in enumerate(captions) if _is_learnt(caption) and encoders.fits(caption.text)]
        pictures = pool.pictures(pool_folder, kind)
        for start in range(0, len(usable), _CHUNK):
            chosen = usable[start : start + _CHUNK]
            latents.append(encode_pictures(vae, as_tensor(pictures[chosen])).half())
            texts.append(encoders.encode([captions[i].text for i in chosen]))
        say(f"{kind}: {len(usable)} of {len(captions)}, latents' deviation {latents[-1].float().std():.3f}")
    tokens, pooled = (torch.cat(parts) for parts in zip(*((t.tokens, t.pooled) for t in texts), strict=True))
    return Examples(pictures.shape[1], torch.cat(latents), Encoded(tokens.bfloat16(), pooled))


def encode_pictures(vae: AutoencoderKL, pictures: Tensor) -> Tensor:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        mean = vae.encoder(pictures)[:, :LATENT_CHANNELS].float()
    return flow.pack((mean - vae.config.shift_factor) * vae.config.scaling_factor)


def loss_on(transformer: nn.Module, small: Examples, large: Examples) -> Loss:
    # The attention that torch takes by itself costs half of a whole step in its backward pass, for so few tokens.
    torch.backends.cuda.enable_flash_sdp(False)

    def loss_of(random: torch.Generator) -> Tensor:
        examples = large if torch.rand(1, generator=random) < LARGE_SHARE else small
        count = BATCHES[examples.side]
        chosen = torch.randint(len(examples.latents), (count,), generator=random)
        latent = examples.latents[chosen].float()
        text = Encoded(examples.text.tokens[chosen].float(), examples.text.pooled[chosen])
        noise = torch.randn(latent.shape, generator=random)
        level = flow.draw_noise_level(count, random)
        guidance, padding = flow.draw_guidance(count, random), flow.draw_padding(count, random)
        mixed = torch.lerp(latent, noise, level[:, None, None])
        return functional.mse_loss(velocity(transformer, mixed, text, level, guidance, padding), noise - latent)

    return loss_of


def velocity(
    transformer: nn.Module, latent: Tensor, text: Encoded, level: Tensor, guidance: Tensor, padding: Tensor
) -> Tensor:
    """Where the latent is to go, per unit of noise level."""
    tokens = latent.shape[1]
    bias = flow.padding_bias(padding, TEXT_TOKENS, TEXT_TOKENS + tokens)
    with torch.autocast("cpu", torch.bfloat16):
        (predicted,) = transformer(
            hidden_states=latent,
            encoder_hidden_states=text.tokens,
            pooled_projections=text.pooled,
            timestep=level,
            guidance=guidance,
            img_ids=flow.places(2 * math.isqrt(tokens)),
            txt_ids=torch.zeros(TEXT_TOKENS, 3),
            joint_attention_kwargs={"attention_mask": bias.bfloat16()},
            return_dict=False,
        )
    moved: Tensor = predicted.float()
    return moved


def draw(
    transformer: FluxTransformer2DModel, vae: AutoencoderKL, text: Encoded, random: torch.Generator, side: int
) -> list[Image.Image]:
    """One picture of that many pixels a side for each caption, sampled as ComfyUI does by Euler steps."""
    count, latent_side = len(text.tokens), side // LATENT_PIXELS
    latent = torch.randn(count, latent_side**2 // 4, LATENT_CHANNELS * 4, generator=random)
    guidance, padding = torch.full((count,), _COMFYUI_GUIDANCE), torch.full((count,), float(_COMFYUI_PADDING))
    with torch.no_grad():
        levels = flow.noise_levels(_SAMPLING_STEPS)
        for now, then in pairwise(levels):
            latent = latent + (then - now) * velocity(transformer, latent, text, now.expand(count), guidance, padding)
        unpacked = flow.unpack(latent, latent_side) / vae.config.scaling_factor + vae.config.shift_factor
        pixels = vae.decoder(unpacked).clamp(-1, 1).add(1).mul(127.5).byte().permute(0, 2, 3, 1)
    return [Image.fromarray(picture.numpy()) for picture in pixels]


def report_accuracy(
    transformer: FluxTransformer2DModel, vae: AutoencoderKL, encoders: TextEncoders, count: int
) -> None:
    """How many of so many pictures show what was asked for; the same of pairs that were never trained on."""
    seen = [prompt for prompt in grid(2 * count) if (prompt.colour, prompt.shape) not in HELD_OUT_PAIRS]
    for side, (name, prompts) in product(
        BATCHES, [("seen", seen[:count]), ("held out", grid_of_pairs(HELD_OUT_PAIRS, count))]
    ):
        text = encoders.encode([prompt.text for prompt in prompts])
        drawn = draw(transformer, vae, text, torch.Generator().manual_seed(SEED), side)
        say(f"{side} px, pairs {name}: {judge(prompts, drawn)}")


def _is_learnt(caption: Caption) -> bool:
    return (caption.colour, caption.shape) not in HELD_OUT_PAIRS
