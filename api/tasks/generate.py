"""Makes one picture: LoRAs in place, template bound, ComfyUI followed to the end, the file stored and read back."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog
from PIL import Image, UnidentifiedImageError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.comfy.client import ComfyClient
from api.comfy.errors import EngineDied, EngineSilent, PromptLost, failure_error
from api.comfy.history import Outcome, OutcomeStatus, Output
from api.comfy.messages import Progress, Step
from api.domain.engine import InstalledBase
from api.domain.workflow import Graph, LoraUse, WorkflowTemplate, bind
from api.errors import EngineError, RetryableError
from api.models import GeneratedAsset
from api.scratch import scratch
from api.services.jobs import LeaseLostError
from api.storage import StoredFile
from api.tasks.attempt import Attempt
from api.tasks.gpu import GpuKit

log = structlog.get_logger(__name__)

SAMPLED_PERCENT = 95.0
"""Sampling fills the bar up to here."""
BYTES_PER_MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Picture:
    """A finished picture on our own disk."""

    path: Path
    width: int
    height: int


async def generate(kit: GpuKit, attempt: Attempt) -> None:
    """One attempt at one picture. Raises MasukaError; RetryableError when ComfyUI died or forgot the prompt."""
    async with attempt.resources.sessions() as session:
        asset = await _asset_of(session, attempt)
    config = asset.generation_config
    base, loras = kit.base(config["base_model"]), kit.loras()
    uses = [
        LoraUse(await loras.provide(lora["storage_path"], lora["sha256"]), lora["scale"]) for lora in config["loras"]
    ]
    graph = _graph(kit.templates[config["workflow"]], asset, base, uses, kit.comfy().output_prefix(attempt.prompt_id))
    with scratch(kit.settings) as workdir:
        began = time.monotonic()
        try:
            picture = await _render(kit, attempt, base, graph, workdir / "picture.png")
        except (EngineDied, EngineSilent, PromptLost) as exc:
            raise RetryableError(exc.detail, code=exc.code, hint=exc.hint) from exc
        rendered = time.monotonic()
        attempt.release_gpu()
        await attempt.progress(stage="storing", progress=SAMPLED_PERCENT, message="Storing the picture")
        key = f"assets/{asset.id}.png"
        stored = await attempt.resources.storage.put_file(key, picture.path, "image/png")
    seconds = {"rendering": round(rendered - began, 3), "storing": round(time.monotonic() - rendered, 3)}
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


# ---- in ComfyUI --------------------------------------------------------------------------------------------------


async def _render(kit: GpuKit, attempt: Attempt, base: InstalledBase, graph: Graph, destination: Path) -> Picture:
    """Have ComfyUI draw it and fetch the file; afterwards ComfyUI has nothing of this prompt any more."""
    server = kit.comfy()
    if not server.running:
        await attempt.progress(urgent=True, stage="loading", message="Starting ComfyUI")
    async with kit.use_comfy(base) as client:
        try:
            outcome = await _follow(client, attempt, graph)
            if outcome.status is OutcomeStatus.INTERRUPTED:
                raise RetryableError("ComfyUI stopped the prompt, and not for us.", code="prompt_interrupted")
            if outcome.failure is not None:
                raise failure_error(outcome.failure)
            _require_applied(outcome.lora_complaints)
            output = _only_picture(outcome)
            await client.download(output, destination)
        finally:
            server.discard_outputs_of(attempt.prompt_id)
            await asyncio.shield(_forget(client, attempt.prompt_id))
    return await asyncio.to_thread(_look_at, destination)


async def _follow(client: ComfyClient, attempt: Attempt, graph: Graph) -> Outcome:
    """Submit and wait; sampling steps become progress. When told to stop, exactly this prompt is stopped."""
    await attempt.progress(urgent=True, stage="queued", message="Waiting for ComfyUI")
    relay = _Relay(attempt)
    relaying = asyncio.create_task(relay.run())
    try:
        await client.submit(graph, attempt.prompt_id, on_progress=relay.hear)
        return await client.wait(attempt.prompt_id)
    except asyncio.CancelledError:
        await asyncio.shield(client.interrupt(attempt.prompt_id))
        raise
    finally:
        relaying.cancel()
        await asyncio.wait({relaying})


class _Relay:
    """Carries steps from the websocket's callback, which must not block, to the snapshot."""

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._latest: Progress | None = None
        self._heard = asyncio.Event()

    def hear(self, step: Step) -> None:
        if isinstance(step, Progress):
            self._latest = step
            self._heard.set()

    async def run(self) -> None:
        while True:
            await self._heard.wait()
            self._heard.clear()
            if self._latest is None:
                continue
            step, total = self._latest.value, self._latest.maximum
            try:
                await self._attempt.progress(
                    stage="sampling",
                    step=step,
                    total_steps=total,
                    progress=SAMPLED_PERCENT * step / max(total, 1),
                    message=f"Step {step} of {total}",
                )
            except LeaseLostError:
                return  # the heartbeat stops the attempt


async def _forget(client: ComfyClient, prompt_id: str) -> None:
    """Leave no entry in ComfyUI's history; one that died has none."""
    try:
        await client.delete_history(prompt_id)
    except EngineError as exc:
        log.info("history_not_deleted", error=exc.detail)


def _require_applied(complaints: tuple[str, ...]) -> None:
    """ComfyUI draws without a LoRA that it cannot apply, and calls that success."""
    if complaints:
        raise EngineError(
            f"ComfyUI could not apply the LoRA: {complaints[0]}",
            code="lora_not_applied",
            value=len(complaints),
            hint="The file does not fit this base model; train it again, or import the right file.",
        )


def _only_picture(outcome: Outcome) -> Output:
    pictures = [output for output in outcome.outputs if output.key == "images"]
    if len(pictures) != 1:
        raise EngineError(
            f"ComfyUI made {len(pictures)} pictures instead of one.", code="output_missing", value=len(pictures)
        )
    return pictures[0]


def _look_at(path: Path) -> Picture:
    """Prove that the file is a whole picture. Raises EngineError `output_damaged`."""
    try:
        with Image.open(path, formats=("PNG",)) as image:
            image.load()
            return Picture(path, image.width, image.height)
    except (UnidentifiedImageError, OSError, SyntaxError) as exc:
        raise EngineError(f"ComfyUI's file is no whole PNG: {exc}", code="output_damaged") from exc


# ---- in the database ---------------------------------------------------------------------------------------------


async def _record(
    session: AsyncSession, asset: GeneratedAsset, stored: StoredFile, picture: Picture, seconds: dict[str, float]
) -> None:
    output: dict[str, Any] = {
        "width": picture.width,
        "height": picture.height,
        "sha256": stored.sha256,
        "size_bytes": stored.size,
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
