"""flux-tiny in the real ComfyUI: the weights, the encoders made here and the shims together draw what is asked for."""

import numpy as np
import pytest
from PIL import Image

from api.selftest.prompts import grid, judge
from tests.engines.comfy_lab import Lab

pytestmark = [pytest.mark.engines, pytest.mark.asyncio(loop_scope="session")]

STEPS = 12
GRID = 30
GRID_SEED = 1000
"""The pictures are the first of the 150 that docs/flux-tiny.md gives the figures of."""
RED, GREEN, BLUE = range(3)


@pytest.mark.parametrize(
    ("prompt", "subject", "background"),
    [
        ("a red circle on a blue background", RED, BLUE),
        ("a blue square on a red background", BLUE, RED),
        ("a green circle on a red background", GREEN, RED),
    ],
)
async def test_colours_are_where_the_prompt_wants_them(lab: Lab, prompt: str, subject: int, background: int):
    async with lab.server.use(lab.base) as client:
        drawing = lab.drawing(prompt=prompt, num_inference_steps=STEPS, seed=5)
        path = await lab.fetch(client, await lab.draw(client, drawing))
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"), dtype=np.int16)
    middle = pixels[26:38, 26:38].mean(axis=(0, 1))
    corners = pixels[[2, 2, 61, 61], [2, 61, 2, 61]].mean(axis=0)
    assert middle.argmax() == subject
    assert corners.argmax() == background


@pytest.mark.timeout(300)  # half a second a picture, and several on a machine that is busy
async def test_nearly_every_prompt_of_a_grid_is_drawn_as_it_says(lab: Lab):
    prompts = grid(GRID)
    async with lab.server.use(lab.base) as client:
        pictures = [
            Image.fromarray(pixels.astype(np.uint8))
            for seed, prompt in enumerate(prompts, GRID_SEED)
            for pixels in [
                await lab.pixels(client, prompt=prompt.text, num_inference_steps=STEPS, guidance_scale=3.5, seed=seed)
            ]
        ]
    accuracy = judge(prompts, pictures)
    assert accuracy.background >= 29
    assert accuracy.colour >= 29
    assert accuracy.shape >= 23, "the measure itself misreads some soft stars and crosses"
