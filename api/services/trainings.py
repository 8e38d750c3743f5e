"""Trainings: from a request to rows."""

from collections.abc import Collection
from typing import Any
from uuid import UUID

from pydantic import ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from api.domain.job import Kind
from api.domain.preset import find
from api.domain.samples import default_prompts
from api.domain.text import Name
from api.domain.training import FluxDefaults, FluxTrainingConfig, FluxTrainingRequest
from api.domain.webhook import WebhookUrl
from api.engines import catalogue
from api.errors import ConflictError, NotFoundError
from api.models import Dataset, Job, TrainingSession
from api.services import bases, dataset_versions, datasets, trainer_options, webhooks
from api.services.presets import presets
from api.settings import Settings


class TrainFluxRequest(FluxTrainingRequest):
    """`POST /api/training/flux`: all but the dataset is optional."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {"dataset_id": "6f1c9f8e-3a0b-4c57-9d5e-0d6f3c8f2b11", "steps": 2000, "rank": 32, "alpha": 16}
        }
    )

    dataset_id: UUID = Field(strict=False)
    name: Name | None = Field(None, description="Name of the session and of its LoRA; default: the dataset's.")
    base_model: Name | None = Field(None, description="Default: MASUKA_BASE_MODEL, else flux-dev when it is installed.")
    preset: Name | None = Field(
        None,
        description="What the request leaves out is as in this preset; without one, as DEFAULT_* are set.",
        examples=["24gb-person"],
    )
    webhook_url: WebhookUrl | None = None


async def submit(
    session: AsyncSession,
    settings: Settings,
    installed: Collection[str],
    request: TrainFluxRequest,
    *,
    trainer: str | None = None,
) -> TrainingSession:
    """Validate and write the session and its job, with every default filled in.

    `trainer`: the version of SimpleTuner, when the request names options of it.
    Raises InputError (or a subclass) with nothing written, UnavailableError when the base model is not installed.
    """
    config = resolve(settings, request)
    dataset = await datasets.get(session, request.dataset_id)
    if dataset.image_count == 0:
        raise ConflictError("This dataset has no images.", code="dataset_empty", value=str(dataset.id))
    base_model = bases.choose(settings, installed, named=request.base_model)
    trainer_options.require(config.expert, trainer, base_model)
    stored: dict[str, Any] = config.model_dump(mode="json")
    trigger_word = config.trigger_word or dataset.trigger_word
    stored |= {"base_model": base_model, "trigger_word": trigger_word}
    stored |= await _samples(session, config, dataset, base_model, trigger_word)
    stored |= {"preset": request.preset} if request.preset else {}
    version = await dataset_versions.current(session, dataset.id)
    row = TrainingSession(
        name=request.name or dataset.name, dataset_id=dataset.id, dataset_version_id=version.id, config=stored
    )
    return await add(session, row, webhooks.receiver(settings, request.webhook_url))


def resolve(settings: Settings, request: TrainFluxRequest) -> FluxTrainingConfig:
    """With every default filled in. Raises InputError `warmup_too_long` or `preset_unknown`."""
    preset = find(presets(), request.preset).settings if request.preset else None
    return request.resolve(defaults(settings), preset)


async def add(session: AsyncSession, row: TrainingSession, webhook_url: str | None) -> TrainingSession:
    """Write a session whose choices are made, and its job."""
    job = Job.new(Kind.TRAINING, webhook_url=webhook_url)
    row.total_steps, row.current_step = row.config["steps"], row.start_step
    row.task_id, row.created_at = job.id, job.created_at
    session.add_all((job, row))
    await session.flush()
    return row


async def _samples(
    session: AsyncSession, config: FluxTrainingConfig, dataset: Dataset, base_model: str, trigger_word: str | None
) -> dict[str, Any]:
    """What of the samples is chosen by the dataset and the base model."""
    prompts = config.sample_prompts
    if prompts is None:
        captions = [image.caption for image in await datasets.images(session, dataset.id)]
        prompts = default_prompts(trigger_word, captions)
    return {"sample_prompts": prompts, "sample_steps": config.sample_steps or catalogue.get(base_model).sample_steps}


def defaults(settings: Settings) -> FluxDefaults:
    return FluxDefaults(
        learning_rate=settings.default_flux_learning_rate,
        steps=settings.default_flux_steps,
        rank=settings.default_flux_rank,
        alpha=settings.default_flux_alpha,
        resolution=settings.default_resolution,
    )


async def get(session: AsyncSession, session_id: UUID) -> TrainingSession:
    row = await session.get(TrainingSession, session_id)
    if row is None:
        raise NotFoundError(
            "There is no training session with this id.", code="session_not_found", value=str(session_id)
        )
    return row


def config_of(row: TrainingSession) -> FluxTrainingConfig:
    """What the session trains with; choices that came after it was asked for have their defaults."""
    fields = FluxTrainingConfig.model_fields.keys() & row.config.keys()
    return FluxTrainingConfig.model_validate({name: row.config[name] for name in fields})


def task_of(row: TrainingSession) -> UUID:
    """The job of this session; every session has one from the transaction that made it."""
    if row.task_id is None:
        raise RuntimeError(f"training session {row.id} has no job")
    return row.task_id
