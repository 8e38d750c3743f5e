"""Pictures: from a request to rows, and what of them is shown or deleted."""

import secrets
from collections.abc import Collection
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.domain.generation import MAX_IMAGES, MAX_SEED, GenerateImageRequest, LoraChoice, affinity
from api.domain.job import Kind
from api.engines import catalogue
from api.errors import ConflictError, InputError, NotFoundError
from api.models import GeneratedAsset, Job, Model
from api.models.base import utcnow
from api.services import bases, loras
from api.services.unrecorded import dismiss
from api.settings import Settings
from api.storage import Storage

TEMPLATES = {"flux": "flux_text_to_image"}
"""The text-to-image template of each family of base models."""


async def submit(
    session: AsyncSession,
    storage: Storage,
    settings: Settings,
    installed: Collection[str],
    request: GenerateImageRequest,
) -> list[GeneratedAsset]:
    """Validate and write one asset and one job per picture, in the order of their seeds.

    Raises InputError (or a subclass) with nothing written, UnavailableError when the base model is not installed.
    """
    request.check_size(settings.masuka_max_side)
    choices = request.lora_choices()
    models = await loras.usable(session, storage, [choice.model_id for choice in choices])
    base_model = bases.choose(settings, installed, named=request.base_model, loras=models)
    workflow = _workflow(request, base_model)
    stack = [_lora(choice, model) for choice, model in zip(choices, models, strict=True)]
    now = utcnow()
    assets = []
    for index, seed in enumerate(request.seeds(secrets.randbelow(MAX_SEED - MAX_IMAGES))):
        created = now + timedelta(microseconds=index)  # keeps the order of the seeds in the queue and in lists
        job = Job.new(Kind.IMAGE, affinity=affinity(base_model, stack))
        job.created_at = created
        asset = GeneratedAsset(
            model_id=models[0].id if models else None,
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            generation_config=_config(request, base_model, workflow, seed, stack),
            task_id=job.id,
            created_at=created,
        )
        session.add_all((job, asset))
        assets.append(asset)
    await session.flush()
    return assets


def _workflow(request: GenerateImageRequest, base_model: str) -> str:
    own = TEMPLATES[catalogue.get(base_model).family]
    if request.workflow not in (None, own):
        raise InputError(
            f"There is no workflow {request.workflow!r} for {base_model}.",
            code="workflow_unknown",
            value=request.workflow,
            hint=f"Leave workflow out, or name {own!r}.",
        )
    return own


def _lora(choice: LoraChoice, model: Model) -> dict[str, Any]:
    return {
        "model_id": str(model.id),
        "scale": choice.scale,
        "file": model.file_name,
        "storage_path": model.storage_path,
        "sha256": model.model_metadata["sha256"],
    }


def _config(
    request: GenerateImageRequest, base_model: str, workflow: str, seed: int, stack: list[dict[str, Any]]
) -> dict[str, Any]:
    asked = request.model_dump(include={"num_inference_steps", "guidance_scale", "true_cfg_scale", "width", "height"})
    return {**asked, "base_model": base_model, "workflow": workflow, "seed": seed, "loras": stack}


async def get(session: AsyncSession, asset_id: UUID) -> GeneratedAsset:
    asset = await session.get(GeneratedAsset, asset_id)
    if asset is None:
        raise NotFoundError("There is no asset with this id.", code="asset_not_found", value=str(asset_id))
    return asset


def file_key(asset_id: UUID, tag: str) -> str:
    """Where one attempt stores the file of an asset; another attempt, by its `tag`, stores elsewhere."""
    return f"assets/{asset_id}-{tag}.png"


async def delete(session: AsyncSession, asset_id: UUID) -> None:
    """Remove the row; its file is removed soon.

    Raises NotFoundError, and ConflictError `asset_active` while it is waited for.
    """
    asset = await get(session, asset_id)
    if asset.status in ("pending", Kind.IMAGE.running_word):
        raise ConflictError(
            f"This asset is {asset.status}.",
            code="asset_active",
            value=asset.status,
            hint="Cancel it first, then delete it.",
        )
    if asset.storage_path is not None:
        dismiss(session, asset.storage_path)
    await session.delete(asset)
    await session.flush()


def require_file(asset: GeneratedAsset) -> str:
    """The storage key of a finished asset. Raises ConflictError `asset_not_ready`."""
    if asset.storage_path is None:
        raise ConflictError(
            f"This asset has no file: it is {asset.status}.",
            code="asset_not_ready",
            value=asset.status,
            hint="Follow /api/progress/stream/{id} until it is completed.",
        )
    return asset.storage_path


def task_of(asset: GeneratedAsset) -> UUID:
    """The job of this asset; every asset has one from the transaction that made it."""
    if asset.task_id is None:
        raise RuntimeError(f"asset {asset.id} has no job")
    return asset.task_id
