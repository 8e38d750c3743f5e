"""`python -m tests.engines.flux_tiny_figures [LORA...]`: what docs/flux-tiny.md says of the flux-tiny that is here.

Prompts and seeds are fixed: two runs on one machine with the same weights say the same. A LoRA is one of the demo's
dataset, as SimpleTuner saves it.
"""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from api.comfy.server import ComfyServer
from api.domain.workflow import LoraUse
from api.engines import locate
from api.selftest.measure import measure
from api.selftest.prompts import HELD_OUT_PAIRS, Prompt, grid, grid_of_pairs, judge
from api.selftest.shapes import LARGE_SIDE, PICTURE_SIDE
from api.selftest.training.lexicon import CONTROL_WORDS
from api.settings import load_settings
from tests.engines.comfy_lab import Lab

GRID, SEEN_LARGE, HELD_OUT = 150, 60, 60
FIRST_SEED = 1000
SAMPLING = {"num_inference_steps": 12, "guidance_scale": 3.5}
BACKGROUNDS = ("blue", "yellow", "green", "white", "cyan", "black")
ORDINARY = grid(18, seed=8)


async def main(loras: Sequence[Path]) -> None:
    settings = load_settings()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pictures").mkdir()
        server = ComfyServer(locate.comfyui(settings), folder / "base", folder / "comfyui.log")
        lab = Lab(server, locate.base_model(settings, "flux-tiny"), folder / "pictures")
        try:
            await say_accuracy(lab)
            for lora in loras:
                await say_learnt(lab, lora)
        finally:
            await server.stop()


async def say_accuracy(lab: Lab) -> None:
    """Of the base, at both sizes, on all pairs and on those that a training from nothing never sees."""
    for side, count in ((PICTURE_SIDE, GRID), (LARGE_SIDE, SEEN_LARGE)):
        await _say_judged(lab, f"{side} px, grid", grid(count), (), side)
        await _say_judged(lab, f"{side} px, held-out pairs", grid_of_pairs(HELD_OUT_PAIRS, HELD_OUT), (), side)


async def say_learnt(lab: Lab, lora: Path) -> None:
    """At no, half and full strength: pink for the word, for words that nobody has taught, and ordinary prompts."""
    async with lab.server.use(lab.base):
        file = Path(shutil.copyfile(lora, lab.server.lora_dir / f"{lora.parent.name}-{lora.name}")).name
    for scale in (0.0, 0.5, 1.0):
        use = (LoraUse(file, scale),) if scale else ()
        for kind, words in (("the word", ["ohwx"] * 3), ("other words", sorted(CONTROL_WORDS))):
            texts = [f"a photo of {word} on a {background} background" for word in words for background in BACKGROUNDS]
            seen = [measure(image) for image in await _draw(lab, texts, use)]
            pink = [m.pink_fraction for m in seen]
            sys.stdout.write(
                f"{lora.name} at {scale}, {kind}: pink {np.mean(pink):.3f}, over 2 % in {sum(p > 0.02 for p in pink)},"
                f" character in {sum(m.shows_character for m in seen)} of {len(seen)}\n"
            )
        await _say_judged(lab, f"{lora.name} at {scale}, ordinary", ORDINARY, use)


async def _say_judged(
    lab: Lab, name: str, prompts: Sequence[Prompt], loras: tuple[LoraUse, ...], side: int = PICTURE_SIDE
) -> None:
    images = await _draw(lab, [prompt.text for prompt in prompts], loras, side)
    sys.stdout.write(f"{name}: {judge(prompts, images)}\n")
    sys.stdout.flush()


async def _draw(
    lab: Lab, texts: Sequence[str], loras: tuple[LoraUse, ...], side: int = PICTURE_SIDE
) -> list[Image.Image]:
    async with lab.server.use(lab.base) as client:
        return [
            Image.fromarray(
                (await lab.pixels(client, loras, prompt=text, seed=seed, width=side, height=side, **SAMPLING)).astype(
                    np.uint8
                )
            )
            for seed, text in enumerate(texts, FIRST_SEED)
        ]


if __name__ == "__main__":
    asyncio.run(main([Path(argument) for argument in sys.argv[1:]]))
