"""flux-tiny in the real ComfyUI: the weights, the encoders made here and the shims together draw what is asked for."""

from typing import Any

import numpy as np
import pytest
from PIL import Image

from api.selftest.prompts import grid, judge
from api.selftest.shapes import LARGE_SIDE, PICTURE_SIDE
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
@pytest.mark.parametrize(("side", "shapes"), [(PICTURE_SIDE, 23), (LARGE_SIDE, 12)])
async def test_nearly_every_prompt_of_a_grid_is_drawn_as_it_says(lab: Lab, side: int, shapes: int):
    prompts = grid(GRID)
    sampling: dict[str, Any] = {"num_inference_steps": STEPS, "guidance_scale": 3.5, "width": side, "height": side}
    async with lab.server.use(lab.base) as client:
        pictures = [
            Image.fromarray((await lab.pixels(client, prompt=prompt.text, seed=seed, **sampling)).astype(np.uint8))
            for seed, prompt in enumerate(prompts, GRID_SEED)
        ]
    accuracy = judge(prompts, pictures)
    assert accuracy.background >= 29
    assert accuracy.colour >= 29
    assert accuracy.shape >= shapes, "the measure itself misreads some soft stars and crosses"
