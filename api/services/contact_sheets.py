"""The contact sheet of a batch: what of it is drawn already, and why the rest is not, in one picture."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from PIL import Image
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.contact_sheet import captioned, contact_sheet, lacking
from api.domain.comparison import Layout, Picture, arrange
from api.errors import ConflictError
from api.few_at_once import few_at_once
from api.models import GeneratedAsset, Model
from api.scratch import scratch
from api.services import batches
from api.settings import Settings
from api.storage import Storage

JPEG_QUALITY = 90
FETCHES = 8
"""At once, from a bucket."""


async def contents(session: AsyncSession, batch_id: UUID) -> tuple[list[GeneratedAsset], Layout]:
    """What is on the sheet and where. Raises NotFoundError, ConflictError `batch_empty`."""
    await batches.get(session, batch_id)
    assets = list(await batches.assets(session, batch_id))
    if not assets:
        raise ConflictError("All pictures of this batch were deleted.", code="batch_empty", value=str(batch_id))
    used = [lora for asset in assets for lora in asset.generation_config["loras"]]
    models = {UUID(lora["model_id"]) for lora in used if "model_id" in lora}
    query = sa.select(col(Model.id), col(Model.name)).where(col(Model.id).in_(models))
    names = {str(model_id): name for model_id, name in await session.execute(query)}
    names |= {lora["checkpoint_id"]: f"step {lora['step']}, scale" for lora in used if "step" in lora}
    alike = Counter(names.values())
    names = {lora_id: name for lora_id, name in names.items() if alike[name] == 1}  # else by file
    return assets, arrange([_picture(asset, names) for asset in assets])


async def draw(
    storage: Storage, settings: Settings, assets: Sequence[GeneratedAsset], layout: Layout, side: int
) -> bytes:
    """A JPEG; no cell has a side of more than `side` pixels. Raises StorageError."""
    side = layout.cell_side(side)
    pictures = await tiles(storage, settings, assets, side)
    return await asyncio.to_thread(_captioned_sheet, pictures, layout, side)


async def tiles(storage: Storage, settings: Settings, assets: Sequence[GeneratedAsset], side: int) -> list[Image.Image]:
    """Small copies, in their order; one that says why in the place of a picture that is not there.

    Raises StorageError.
    """
    async with scratch(settings) as folder:
        return await few_at_once(FETCHES, lambda asset: _small(storage, folder, asset, side), assets)


def _captioned_sheet(pictures: Sequence[Image.Image], layout: Layout, side: int) -> bytes:
    captions = layout.captions
    told = [
        captioned(picture, captions[number]) if captions.get(number) else picture
        for number, picture in enumerate(pictures)
    ]
    return _sheet(told, layout, side)


def _picture(asset: GeneratedAsset, names: Mapping[str, str]) -> Picture:
    config = asset.generation_config
    loras = [f"{_lora_name(lora, names)} {lora['scale']:g}" for lora in config["loras"]]
    return Picture(asset.prompt, config["seed"], " + ".join(loras))


def _lora_name(lora: Mapping[str, Any], names: Mapping[str, str]) -> str:
    return names.get(lora["model_id" if "model_id" in lora else "checkpoint_id"], lora["file"])


async def _small(storage: Storage, folder: Path, asset: GeneratedAsset, side: int) -> Image.Image:
    if asset.storage_path is None:
        return lacking(side, asset.status)
    path = storage.local_path(asset.storage_path)
    try:
        if path is None:
            path = folder / str(asset.id)
            await storage.get_file(asset.storage_path, path)
        return await asyncio.to_thread(_shrunk, path, side)
    except FileNotFoundError:
        return lacking(side, "file missing")


def _shrunk(path: Path, side: int) -> Image.Image:
    with Image.open(path) as image:
        image.draft("RGB", (side, side))
        image.thumbnail((side, side))
        return image.convert("RGB")


def _sheet(tiles: Sequence[Image.Image], layout: Layout, side: int) -> bytes:
    blank = Image.new("RGB", (side, side), "white")
    rows = [[blank if number is None else tiles[number] for number in row] for row in layout.cells]
    buffer = BytesIO()
    contact_sheet(rows, layout.column_titles, layout.row_titles, layout.heading).save(
        buffer, "JPEG", quality=JPEG_QUALITY
    )
    return buffer.getvalue()
