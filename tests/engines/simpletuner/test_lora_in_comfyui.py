"""What the real SimpleTuner trained, in the real ComfyUI: every module applied, and as strongly as it was trained."""

from pathlib import Path

import numpy as np
import pytest

from api.domain.lora_file import content_name
from api.domain.workflow import LoraUse
from api.trainer.lora import write_with_alpha
from tests.engines.comfy_lab import ATTENTION, Lab, write_lora
from tests.engines.simpletuner.trainer_lab import Run

pytestmark = [pytest.mark.engines, pytest.mark.timeout(900), pytest.mark.asyncio(loop_scope="session")]


def register(lab: Lab, source: Path, alpha: float) -> str:
    """Put a LoRA into ComfyUI's folder as the service does."""
    written = write_with_alpha(source, lab.folder / "with-alpha.safetensors", alpha, {})
    return written.path.rename(lab.server.lora_dir / content_name("trained", written.sha256)).name


async def test_a_trained_lora_changes_the_picture_and_comfyui_knows_all_its_keys(lab: Lab, trained: Run) -> None:
    async with lab.server.use(lab.base) as client:
        name = register(lab, trained.workdir.final_lora, alpha=2)
        plain = await lab.pixels(client)
        drawing = lab.drawing((LoraUse(name, 1.0),))
        with_lora = await lab.pixels_of(client, drawing)

    assert drawing.complaints() == ()
    assert np.abs(with_lora - plain).mean() > 0


async def test_alpha_16_of_rank_32_at_full_strength_is_half_strength_without_alpha(lab: Lab) -> None:
    without_alpha = lab.folder / "rank-32.safetensors"
    write_lora(without_alpha, ATTENTION, rank=32)
    async with lab.server.use(lab.base) as client:
        with_alpha = register(lab, without_alpha, alpha=16)
        without_alpha = without_alpha.rename(lab.server.lora_dir / without_alpha.name)
        plain = await lab.pixels(client)
        registered = await lab.pixels(client, (LoraUse(with_alpha, 1.0),))
        halved = await lab.pixels(client, (LoraUse(without_alpha.name, 0.5),))
        whole = await lab.pixels(client, (LoraUse(without_alpha.name, 1.0),))

    assert np.array_equal(registered, halved)
    assert not np.array_equal(registered, whole)
    assert not np.array_equal(registered, plain)
