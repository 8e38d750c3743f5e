"""flux-tiny in the real ComfyUI: the weights, the encoders made here and the shims together draw what is asked for."""

import numpy as np
import pytest
from PIL import Image

from tests.engines.comfy_lab import Lab

pytestmark = [pytest.mark.engines, pytest.mark.asyncio(loop_scope="session")]

STEPS = 12
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
