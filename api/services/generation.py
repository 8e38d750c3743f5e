"""Pictures: from a request to rows, and what is known of one."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.domain.generation import GenerateImageRequest
from api.domain.nodes import ModelFiles
from api.engines import catalogue
from api.errors import ConflictError, InputError, NotFoundError
from api.models import GeneratedAsset
from api.services import bases, runs, stacks, workflows
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
    files: Mapping[str, ModelFiles] = MappingProxyType({}),
) -> list[GeneratedAsset]:
    """Validate and write one asset and one job per picture, in the order of their seeds.

    `files` by base model, for workflows that name some. Raises InputError (or a subclass) with nothing written,
    UnavailableError when the base model is not installed.
    """
    planned = await plan(session, storage, settings, installed, request, files)
    pictures = runs.repeated(planned, request.num_images)
    return await runs.add(session, pictures, runs.batch_of(pictures, request))


async def plan(
    session: AsyncSession,
    storage: Storage,
    settings: Settings,
    installed: Collection[str],
    request: GenerateImageRequest,
    files: Mapping[str, ModelFiles],
) -> runs.Plan:
    """Judge a request, of which nothing is written yet. Raises as `submit` does."""
    request.check_size(settings.masuka_max_side)
    await _require_workflow(session, request.workflow)
    models = await stacks.usable(session, storage, request.lora_choices())
    base_model = bases.choose(settings, installed, named=request.base_model, loras=models)
    wish = runs.Wish(
        workflow=request.workflow or TEMPLATES[catalogue.get(base_model).family],
        parameters=request.parameters(),
        base_model=request.base_model,
        loras=request.lora_choices(),
        add_trigger_words=request.add_trigger_words,
        webhook_url=request.webhook_url,
        at=(),
    )
    return await runs.plan(session, storage, settings, installed, wish, files)


async def _require_workflow(session: AsyncSession, name: str | None) -> None:
    """Raises InputError `workflow_unknown`: 404 would be for the path that was asked, not for a name in its body."""
    try:
        if name is not None:
            await workflows.find(session, name)
    except NotFoundError as exc:
        raise InputError(exc.detail, code="workflow_unknown", value=name, hint=exc.hint) from exc


async def get(session: AsyncSession, asset_id: UUID) -> GeneratedAsset:
    """Raises NotFoundError, also for one that is deleted."""
    asset = await session.get(GeneratedAsset, asset_id)
    if asset is None or asset.deleted_at is not None:
        hint = "It is deleted; POST /api/assets/{id}/restore takes it back." if asset is not None else None
        raise NotFoundError("There is no asset with this id.", code="asset_not_found", value=str(asset_id), hint=hint)
    return asset


def file_key(asset_id: UUID, tag: str) -> str:
    """Where one attempt stores the file of an asset; another attempt, by its `tag`, stores elsewhere."""
    return f"assets/{asset_id}-{tag}.png"


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
