"""Makes one picture: LoRAs in place, template bound, drawn by ComfyUI, the file stored and read back."""

import time
from functools import partial
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.comfy.errors import EngineDied, EngineSilent, PromptLost
from api.domain.engine import InstalledBase
from api.domain.workflow import Graph, LoraUse, WorkflowTemplate, bind
from api.errors import EngineError, RetryableError
from api.models import GeneratedAsset
from api.scratch import scratch
from api.services import generation
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
    await make_room(attempt, picture_need(asset))
    config = asset.generation_config
    loras = [lora["storage_path"] for lora in config["loras"]]
    with kit.loras.in_use(loras), scratch(kit.settings) as workdir:
        base, uses = kit.base(config["base_model"]), await _provide_loras(kit, attempt, config["loras"])
        prefix = kit.comfy().output_prefix(attempt.prompt_id)
        graph = _graph(kit.templates[config["workflow"]], asset, base, uses, prefix)
        began = time.monotonic()
        try:
            picture = await render(kit, attempt, base, graph, workdir / "picture.png")
        except (EngineDied, EngineSilent, PromptLost) as exc:
            raise RetryableError(exc.detail, code=exc.code, hint=exc.hint, log_tail=exc.log_tail) from exc
        rendered = time.monotonic()
        attempt.release_gpu()
        await keep(attempt, asset, picture, rendered - began)


async def _provide_loras(kit: GpuKit, attempt: Attempt, loras: list[dict[str, Any]]) -> list[LoraUse]:
    """Have the LoRAs where ComfyUI finds them, in the order in which they are applied."""
    names = [
        await patiently(attempt, partial(kit.loras.provide, lora["storage_path"], lora["sha256"])) for lora in loras
    ]
    return [LoraUse(name, lora["scale"]) for name, lora in zip(names, loras, strict=True)]


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


def _graph(
    template: WorkflowTemplate, asset: GeneratedAsset, base: InstalledBase, loras: list[LoraUse], prefix: str
) -> Graph:
    """The template with this picture's values; what the request does not choose keeps the template's defaults."""
    config = asset.generation_config
    chosen = ("num_inference_steps", "guidance_scale", "true_cfg_scale", "width", "height", "seed")
    values = {
        **template.defaults(),
        "unet_name": base.unet_name,
        "weight_dtype": base.weight_dtype,
        "clip_l_name": base.clip_l_name,
        "t5xxl_name": base.t5xxl_name,
        "vae_name": base.vae_name,
        "prompt": asset.prompt,
        "negative_prompt": asset.negative_prompt,
        "filename_prefix": prefix,
        **{name: config[name] for name in chosen},
    }
    return bind(template, values, loras)


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
