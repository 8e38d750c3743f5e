"""The demo's contact sheet: how the LoRA learnt, what it has learnt, and what it has left alone, in one picture."""

from collections.abc import Mapping
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


def columns(model_id: str, checkpoints: Mapping[int, str]) -> dict[str, dict[str, Any]]:
    """Titles, and what each column adds to a request: no LoRA, those of the checkpoints, the finished one twice."""
    on_the_way = {f"LoRA after {step} steps": {"model_id": found} for step, found in sorted(checkpoints.items())}
    finished = {f"LoRA at {scale}": {"model_id": model_id, "lora_scale": scale} for scale in (0.5, 1.0)}
    return {"without LoRA": {}, **on_the_way, **finished}


def learnt_sheet(
    client: Api, table: Mapping[str, dict[str, Any]], drawing: dict[str, Any], folder: Path, destination: Path
) -> Path:
    """Draw every prompt with each of `columns`; queued at once, so that the GPU never waits.

    Raises MasukaError when one of the pictures fails.
    """
    ids = [
        str(client.post("/api/generate/image", {**drawing, "prompt": prompt, **lora})["asset_id"])
        for prompt in PROMPTS
        for lora in table.values()
    ]
    pictures: list[Image.Image] = []
    with bars() as progress:
        bar = progress.add_task("Drawing the contact sheet", total=len(ids), note="")
        for asset_id in ids:
            pictures.append(_fetch(client, asset_id, folder))
            progress.advance(bar)
    rows = [pictures[i : i + len(table)] for i in range(0, len(pictures), len(table))]
    contact_sheet(rows, list(table), PROMPTS).save(destination)
    return destination


def _fetch(client: Api, asset_id: str, folder: Path) -> Image.Image:
    *_, last = client.follow(asset_id)
    if last["status"] != "completed":
        raise MasukaError(
            f"A picture of the contact sheet {last['status']}: {last['message']}", code=last["error_code"]
        )
    path = client.download(f"/api/assets/{asset_id}/file", folder / f"{asset_id}.png")
    with Image.open(path) as image:
        return image.convert("RGB")
