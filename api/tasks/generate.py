"""Makes one picture: LoRAs in place, template bound, drawn by ComfyUI, the file stored and read back."""

import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.comfy.errors import EngineDied, EngineSilent, PromptLost
from api.domain.engine import InstalledBase
from api.domain.graph import Graph
from api.domain.parameters import KNOWN
from api.domain.workflow import LoraUse, WorkflowTemplate, bind, with_output_prefix
from api.errors import EngineError, RetryableError
from api.models import GeneratedAsset
from api.scratch import scratch
from api.services import generation, workflows
from api.services.unrecorded import recorded, unrecorded
from api.storage import StoredFile
from api.tasks.attempt import Attempt
from api.tasks.gpu import GpuKit
from api.tasks.patience import patiently
from api.tasks.relay import SAMPLED_PERCENT
from api.tasks.render import Picture, render
from api.tasks.room import make_room, picture_need

log = structlog.get_logger(__name__)

BYTES_PER_MB = 1024 * 1024


async def generate(kit: GpuKit, attempt: Attempt) -> None:
    """One attempt at one picture. Raises MasukaError; RetryableError when ComfyUI died or forgot the prompt."""
    async with attempt.resources.sessions() as session:
        asset = await _asset_of(session, attempt)
        template = await workflows.template_of(session, asset.generation_config)
    await make_room(attempt, picture_need(asset))
    base = kit.base(asset.generation_config["base_model"])
    async with AsyncExitStack() as stack:
        workdir = await stack.enter_async_context(scratch(kit.settings))
        files = await _provide_files(kit, attempt, asset.generation_config, stack)
        prefix = kit.comfy().output_prefix(attempt.prompt_id)
        graph = with_output_prefix(_graph(template, asset, base, files), prefix)
        began = time.monotonic()
        try:
            picture = await render(kit, attempt, base, graph, workdir / "picture.png")
        except (EngineDied, EngineSilent, PromptLost) as exc:
            raise RetryableError(exc.detail, code=exc.code, hint=exc.hint, log_tail=exc.log_tail) from exc
        rendered = time.monotonic()
        attempt.release_gpu()
        await keep(attempt, asset, picture, rendered - began)


@dataclass(frozen=True, slots=True)
class Files:
    """What a picture needs, by the names that ComfyUI knows it by."""

    loras: list[LoraUse]
    """In the order in which they are applied."""
    inputs: dict[str, str]
    """By parameter."""


async def _provide_files(kit: GpuKit, attempt: Attempt, config: dict[str, Any], stack: AsyncExitStack) -> Files:
    """Have every file where ComfyUI finds it; input pictures as long as `stack` is open."""

    async def lora(wanted: dict[str, Any]) -> str:
        return await patiently(attempt, partial(kit.loras.provide, wanted["storage_path"], wanted["sha256"]))

    fixed = config.get("fixed_loras", ())
    stack.enter_context(kit.loras.in_use([wanted["storage_path"] for wanted in (*fixed, *config["loras"])]))
    for wanted in fixed:
        await lora(wanted)
    loras = [LoraUse(await lora(wanted), wanted["scale"]) for wanted in config["loras"]]
    inputs = {
        name: await patiently(attempt, partial(_hold, kit, stack, wanted["storage_path"], wanted["sha256"]))
        for name, wanted in config.get("inputs", {}).items()
    }
    return Files(loras, inputs)


async def _hold(kit: GpuKit, stack: AsyncExitStack, storage_path: str, sha256: str) -> str:
    return await stack.enter_async_context(kit.inputs.holding(storage_path, sha256))


async def keep(attempt: Attempt, asset: GeneratedAsset, picture: Picture, rendering_seconds: float) -> None:
    """Store the picture, read back, and record it: the job is complete."""
    began = time.monotonic()
    storage, key = attempt.resources.storage, generation.file_key(asset.id, attempt.tag)
    await attempt.progress(stage="storing", progress=SAMPLED_PERCENT, message="Storing the picture")
    async with unrecorded(attempt.resources.sessions, storage, key, attempt.lease.owner):
        stored = await patiently(attempt, partial(storage.put_file, key, picture.path, "image/png"))
        seconds = {"rendering": round(rendering_seconds, 3), "storing": round(time.monotonic() - began, 3)}
        await attempt.complete(lambda session: _record(session, asset, stored, picture, seconds))


async def _asset_of(session: AsyncSession, attempt: Attempt) -> GeneratedAsset:
    asset = await session.scalar(sa.select(GeneratedAsset).where(col(GeneratedAsset.task_id) == attempt.job_id))
    if asset is None:
        raise EngineError("The asset of this job is gone.", code="asset_gone", value=str(attempt.job_id))
    return asset


def _graph(template: WorkflowTemplate, asset: GeneratedAsset, base: InstalledBase, files: Files) -> Graph:
    """The template with this picture's values; what the request does not choose keeps the template's defaults."""
    config = asset.generation_config
    values = {
        **template.defaults(),
        "unet_name": base.unet_name,
        "weight_dtype": base.weight_dtype,
        "clip_l_name": base.clip_l_name,
        "t5xxl_name": base.t5xxl_name,
        "vae_name": base.vae_name,
        "negative_prompt": asset.negative_prompt,
        **{name: config[name] for name in KNOWN if name in config},
        **config.get("parameters", {}),
        **files.inputs,
        "prompt": config.get("prompt_sent", asset.prompt),
    }
    return bind(template, {name: values[name] for name in template.parameters}, files.loras)


# ---- in the database ---------------------------------------------------------------------------------------------


async def _record(
    session: AsyncSession, asset: GeneratedAsset, stored: StoredFile, picture: Picture, seconds: dict[str, float]
) -> None:
    output: dict[str, Any] = {
        "width": picture.width,
        "height": picture.height,
        "sha256": stored.sha256,
        "size_bytes": stored.size,
        "lighter": picture.lighter,
        "seconds": seconds,
    }
    await session.execute(
        sa.update(GeneratedAsset)
        .where(col(GeneratedAsset.id) == asset.id)
        .values(
            storage_path=stored.key,
            file_size_mb=round(stored.size / BYTES_PER_MB, 3),
            generation_config={**asset.generation_config, "output": output},
        )
    )
    await recorded(session, stored.key)
