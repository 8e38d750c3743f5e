"""The demo's contact sheet: what the LoRA has learnt, and what it has left alone, in one picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from api.client import Api
from api.commands.console import bars
from api.errors import MasukaError
from api.selftest.sheet import contact_sheet

PROMPTS = (
    "a photo of ohwx on a blue background",
    "a photo of ohwx on a yellow background",
    "a photo of ohwx on a green background",
    "a red circle on a blue background",
    "a green square on a yellow background",
    "a white heart on a red background",
)
"""The word that was taught, and ordinary prompts that must stay as they were."""
SCALES = (0.0, 0.5, 1.0)
TITLES = ("without LoRA", "LoRA at 0.5", "LoRA at 1.0")


def learnt_sheet(client: Api, model_id: str, drawing: dict[str, Any], folder: Path, destination: Path) -> Path:
    """Draw every prompt without the LoRA, at half and at full strength; queued at once, so that the GPU never waits.

    Raises MasukaError when one of the pictures fails.
    """
    asked = [(prompt, scale) for prompt in PROMPTS for scale in SCALES]
    ids = [_ask(client, prompt, scale, model_id, drawing) for prompt, scale in asked]
    pictures: list[Image.Image] = []
    with bars() as progress:
        bar = progress.add_task("Drawing the contact sheet", total=len(ids), note="")
        for asset_id in ids:
            pictures.append(_fetch(client, asset_id, folder))
            progress.advance(bar)
    rows: Sequence[Sequence[Image.Image]] = [
        pictures[i : i + len(SCALES)] for i in range(0, len(pictures), len(SCALES))
    ]
    contact_sheet(rows, TITLES, PROMPTS).save(destination)
    return destination


def _ask(client: Api, prompt: str, scale: float, model_id: str, drawing: dict[str, Any]) -> str:
    lora = {"model_id": model_id, "lora_scale": scale} if scale else {}
    started = client.post("/api/generate/image", {**drawing, "prompt": prompt, **lora})
    return str(started["asset_id"])


def _fetch(client: Api, asset_id: str, folder: Path) -> Image.Image:
    *_, last = client.follow(asset_id)
    if last["status"] != "completed":
        raise MasukaError(
            f"A picture of the contact sheet {last['status']}: {last['message']}", code=last["error_code"]
        )
    path = client.download(f"/api/assets/{asset_id}/file", folder / f"{asset_id}.png")
    with Image.open(path) as image:
        return image.convert("RGB")
