"""Pictures that somebody has made in the canvas: found where ComfyUI saves them, and kept in the history.

The folder tells what is new: a file that nobody may write any more is in the history. So none is lost when a worker
dies, none comes twice, and one that the owner deletes from the history does not come back.
"""

import asyncio
import hashlib
import json
import time
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import structlog
from PIL import Image
from sqlalchemy.ext.asyncio import AsyncSession

from api.db import DATABASE_ERRORS
from api.domain.canvas_picture import described
from api.domain.canvas_prompt import OUR_FOLDER
from api.errors import EngineError, MasukaError
from api.lease import new_owner
from api.models import GeneratedAsset
from api.resources import Resources
from api.services import generation, jobs, stacks, workflows
from api.services.unrecorded import recorded, unrecorded
from api.storage import StoredFile
from api.tasks.generate import BYTES_PER_MB
from api.tasks.gpu import GpuKit
from api.tasks.render import Picture, look_at

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
AGAIN_SECONDS = 5.0
"""Until the next look when something could not be taken: a storage that is away is not asked every second."""
SHOWN_SECONDS = 24 * 3600
"""How long the canvas can show a picture again that is in the history: afterwards its copy here goes."""
UNFINISHED_SECONDS = 60.0
"""A file that is no whole picture so long after its last change never will be one."""
_BY_HAND = UUID("3c4d9a52-6f0e-4d6e-9d53-0c1b6b9a7f10")
_WRITABLE, _READ_ONLY = 0o222, 0o444


async def keep_pictures_forever(kit: GpuKit, resources: Resources) -> None:
    while True:
        left: list[Path] = []
        try:
            await keep_pictures(kit, resources)
            left = await asyncio.to_thread(_new, kit.output_dir)
        except OSError as exc:
            log.warning("canvas_pictures_not_found", error=str(exc))
        await asyncio.sleep(AGAIN_SECONDS if left else LOOK_SECONDS)


async def keep_pictures(kit: GpuKit, resources: Resources) -> int:
    """Take what is new into the history; how many there were. What cannot be taken now is tried again."""
    kept = 0
    for path in await asyncio.to_thread(_new, kit.output_dir):
        try:
            kept += await _keep(resources, path)
        except (MasukaError, *DATABASE_ERRORS) as exc:
            log.warning("canvas_picture_not_kept", name=path.name, error=str(exc))
        except Exception:  # the last line of defence: whatever is in a graph drawn by hand must not end the worker
            log.exception("canvas_picture_not_kept", name=path.name)
    return kept


def _new(output_dir: Path) -> list[Path]:
    """Pictures that are not in the history yet, oldest first; copies that have been there for long are removed."""
    found = []
    for path in output_dir.glob("**/*.png"):
        stat = path.stat()
        if path.relative_to(output_dir).parts[0] == OUR_FOLDER or path.is_symlink():
            continue
        if stat.st_mode & _WRITABLE:
            found.append((stat.st_mtime_ns, path))
        elif time.time() - stat.st_mtime > SHOWN_SECONDS:
            path.unlink()
    return [path for _, path in sorted(found)]


async def _keep(resources: Resources, path: Path) -> bool:
    """False for a file that is still being written, and for one that is in the history already."""
    try:
        picture = await asyncio.to_thread(look_at, path)
        graph, digest = await asyncio.to_thread(_read, path)
    except (EngineError, ValueError, Image.DecompressionBombError):
        await asyncio.to_thread(_give_up_old, path)
        return False
    asset_id = uuid5(_BY_HAND, digest)
    async with resources.sessions() as session:
        known = await session.get(GeneratedAsset, asset_id) is not None
    if not known:
        await _store(resources, picture, graph, asset_id)
    await asyncio.to_thread(path.chmod, _READ_ONLY)
    return not known


def _give_up_old(path: Path) -> None:
    if time.time() - path.stat().st_mtime > UNFINISHED_SECONDS:
        log.warning("canvas_picture_damaged", name=path.name)
        path.chmod(_READ_ONLY)


async def _store(resources: Resources, picture: Picture, graph: dict[str, Any], asset_id: UUID) -> None:
    owner = new_owner()
    key = generation.file_key(asset_id, owner.rpartition("|")[2])
    async with unrecorded(resources.sessions, resources.storage, key, owner):
        stored = await resources.storage.put_file(key, picture.path, "image/png")
        async with resources.sessions.begin() as session:
            await jobs.add_done(session, await _asset(session, asset_id, graph, picture, stored))
            await recorded(session, key)
    log.info("canvas_picture_kept", asset_id=str(asset_id), name=picture.path.name)


async def _asset(
    session: AsyncSession, asset_id: UUID, graph: dict[str, Any], picture: Picture, stored: StoredFile
) -> GeneratedAsset:
    prompt, negative_prompt, config = described(graph)
    models = await workflows.named_loras(session, {lora["file"] for lora in config["loras"]})
    ours = [lora for lora in config["loras"] if lora["file"] in models]
    others = [lora for lora in config["loras"] if lora["file"] not in models]
    size = {"width": picture.width, "height": picture.height}
    output = {**size, "sha256": stored.sha256, "size_bytes": stored.size}
    return GeneratedAsset(
        id=asset_id,
        model_id=models[ours[0]["file"]].id if ours else None,
        prompt=prompt,
        negative_prompt=negative_prompt,
        generation_config={
            **config,
            **size,
            "loras": [stacks.entry(models[lora["file"]], lora["scale"]) for lora in ours],
            **({"other_loras": others} if others else {}),
            "output": output,
        },
        storage_path=stored.key,
        file_size_mb=round(stored.size / BYTES_PER_MB, 3),
    )


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """The graph in a picture, {} when there is none, and the SHA-256 of the file."""
    with Image.open(path, formats=("PNG",)) as image:
        image.load()
        text = image.text.get("prompt", "{}")  # type: ignore[attr-defined]
    try:
        graph = json.loads(text, parse_constant=lambda _: None)  # ComfyUI writes NaN, which is no JSON
    except ValueError:
        graph = {}
    return graph if isinstance(graph, dict) else {}, hashlib.sha256(path.read_bytes()).hexdigest()
