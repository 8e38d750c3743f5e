"""What the canvas opens on request: the graph of a picture, or a workflow with this machine's base model in it."""

import asyncio
import json
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from PIL import Image, UnidentifiedImageError
from sqlalchemy.ext.asyncio import AsyncSession

from api.domain.canvas import input_name
from api.domain.canvas_prompt import renamed, with_own_prefixes
from api.domain.graph import Graph
from api.domain.workflow import bind
from api.engines import locate
from api.errors import NotFoundError
from api.scratch import scratch
from api.services import bases, generation, workflows
from api.settings import Settings
from api.storage import Storage

_EXIF_GRAPHS = {0x0110: "prompt", 0x010F: "workflow"}
"""Where ComfyUI puts graphs in formats other than PNG: `prompt:{...}`."""


@dataclass(frozen=True, slots=True)
class CanvasGraph:
    name: str
    prompt: Graph
    """In API format, as ComfyUI ran it."""
    workflow: dict[str, Any] | None = None
    """As it lay in the canvas, for what was made there."""
    inputs: dict[str, str] = field(default_factory=dict)
    """Pictures that the graph loads: name in ComfyUI's folder -> storage key."""


async def of_asset(session: AsyncSession, storage: Storage, settings: Settings, asset_id: UUID) -> CanvasGraph:
    """Raises NotFoundError `asset_not_found` or `asset_without_graph`, ConflictError `asset_not_ready`."""
    asset = await generation.get(session, asset_id)
    key = generation.require_file(asset)
    async with scratch(settings) as folder:
        path = storage.local_path(key)
        if path is None:
            path = folder / "picture"
            await storage.get_file(key, path)
        try:
            found = await asyncio.to_thread(_graphs_in, path)
        except FileNotFoundError as exc:
            raise NotFoundError("The file is gone from the storage.", code="file_missing", value=key) from exc
    if "prompt" not in found:
        raise NotFoundError(
            "This picture has no graph in it.",
            code="asset_without_graph",
            value=str(asset_id),
            hint="Only pictures that ComfyUI has made have one.",
        )
    wanted = asset.generation_config.get("inputs", {}).values()
    names = {input_name(one["sha256"]): f"{one['sha256'][:16]}.png" for one in wanted}
    inputs = {names[input_name(one["sha256"])]: one["storage_path"] for one in wanted}
    graph = renamed(with_own_prefixes(found["prompt"]), names)
    return CanvasGraph(f"asset {asset.id}", graph, found.get("workflow"), inputs)


async def of_workflow(session: AsyncSession, settings: Settings, installed: Collection[str], name: str) -> CanvasGraph:
    """With the files of the base model that ComfyUI is started with. Raises NotFoundError and UnavailableError."""
    template = (await workflows.find(session, name)).template
    base = await asyncio.to_thread(locate.base_model, settings, bases.for_canvas(settings, installed))
    files = {
        "unet_name": base.unet_name,
        "weight_dtype": base.weight_dtype,
        "clip_l_name": base.clip_l_name,
        "t5xxl_name": base.t5xxl_name,
        "vae_name": base.vae_name,
    }
    values = {**template.defaults(), **{key: value for key, value in files.items() if key in template.parameters}}
    return CanvasGraph(name, with_own_prefixes(bind(template, values)))


def _graphs_in(path: Path) -> dict[str, dict[str, Any]]:
    """`prompt` and `workflow`, those that are there. Raises FileNotFoundError."""
    try:
        with Image.open(path) as image:
            image.load()
            texts = {key: value for key, value in image.info.items() if key in ("prompt", "workflow")}
            exif = image.getexif()
    except (UnidentifiedImageError, SyntaxError):
        return {}
    for tag, key in _EXIF_GRAPHS.items():
        said = exif.get(tag)
        if isinstance(said, str) and said.startswith(f"{key}:"):
            texts.setdefault(key, said.removeprefix(f"{key}:"))
    return {key: graph for key, text in texts.items() if (graph := _parsed(text)) is not None}


def _parsed(text: object) -> dict[str, Any] | None:
    try:
        # ComfyUI writes NaN, which is no JSON.
        graph = json.loads(text, parse_constant=lambda _: None) if isinstance(text, str) else None
    except ValueError:
        return None
    return graph if isinstance(graph, dict) else None
