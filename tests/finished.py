"""Finished pictures, as the worker leaves them."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from api.models import GeneratedAsset
from tests.service import Service

GRAPH = {"3": {"inputs": {"seed": 7, "text": "ein Löwe ☃"}, "class_type": "KSampler", "_meta": {"title": "[[seed]]"}}}


def drawn(size: tuple[int, int] = (333, 217), texts: dict[str, str] | None = None) -> bytes:
    """A PNG with noise, and with its graph as ComfyUI writes it."""
    info = PngInfo()
    for name, text in ({"prompt": json.dumps(GRAPH)} if texts is None else texts).items():
        info.add_text(name, text)
    buffer = BytesIO()
    Image.effect_noise(size, 80).convert("RGB").save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


async def finished(service: Service, folder: Path, data: bytes | None = None, **body: Any) -> str:
    """The id of a picture that was asked for with `body` and that is `data`; no other job may wait."""
    asset_id: str = (await service.pictures(**body))["asset_id"]
    lease = await service.claim()
    source, key = folder / f"{asset_id}.png", f"assets/{asset_id}-{uuid4().hex}.png"
    source.write_bytes(drawn() if data is None else data)
    stored = await service.resources.storage.put_file(key, source)
    async with service.resources.sessions.begin() as session:
        asset = await session.get_one(GeneratedAsset, UUID(asset_id))
        asset.storage_path = key
        output = {"sha256": stored.sha256, "width": 333, "height": 217}
        asset.generation_config = {**asset.generation_config, "output": output}
    await service.complete(lease)
    return asset_id
