"""A dataset looked at before it is trained on, by whoever asks and by every training's start."""

import asyncio
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.domain.clip_tokens import ClipTokens
from api.domain.preflight import Intent, Picture, Report, examine
from api.domain.set_verdicts import Subject
from api.domain.training import FluxTrainingConfig
from api.domain.verdict import Level
from api.engines import locate
from api.errors import Fault, FaultsError
from api.models import Dataset, DatasetImage, DatasetVersionImage
from api.resources import Resources
from api.services import dataset_versions, datasets, measuring, training_estimates
from api.services.training_estimates import Estimate
from api.settings import Settings

START_PATIENCE_SECONDS = 10.0
"""How long the start of a training may wait for pictures that were never measured; the report itself waits for all."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A training that somebody thinks of."""

    config: FluxTrainingConfig
    base_model: str
    name: str | None = None
    """Default: the dataset's."""
    subject: Subject = Subject.PERSON
    version_id: UUID | None = None
    """Of the dataset; default: as it is now."""


@dataclass(frozen=True, slots=True)
class Preflight:
    dataset: Dataset
    plan: Plan
    trigger_word: str | None
    report: Report
    estimate: Estimate


async def preflight(
    resources: Resources, dataset_id: UUID, plan: Plan, *, patience_seconds: float | None = None
) -> Preflight:
    """Measures what never was, for as long as the patience lasts. Holds no connection meanwhile.

    Raises NotFoundError `dataset_not_found`.
    """
    async with resources.sessions() as session:
        dataset = await datasets.get(session, dataset_id)
        images = await _images(session, dataset_id, plan.version_id)
        estimate = await training_estimates.estimate(session, resources.settings, plan.base_model, plan.config, images)
    found = await measuring.look_at(resources, images, patience_seconds)
    # One that is trained on a version has the trigger word of its time, or none.
    trigger_word = plan.config.trigger_word or (None if plan.version_id else dataset.trigger_word)
    intent = Intent(
        resolution=plan.config.resolution,
        images_per_step=plan.config.batch_size * plan.config.gradient_accumulation_steps,
        trigger_word=trigger_word,
        name=plan.name or dataset.name,
        subject=plan.subject,
    )
    tokens = await asyncio.to_thread(_clip_tokens, resources.settings)
    report = await asyncio.to_thread(examine, [_picture(each) for each in images], intent, found, tokens)
    return Preflight(dataset, plan, trigger_word, report, estimate)


async def require(resources: Resources, dataset_id: UUID, plan: Plan) -> Preflight:
    """For the start of a training. Raises FaultsError `preflight_failed` with every error of the report.

    A dataset without pictures is refused by the start itself.
    """
    found = await preflight(resources, dataset_id, plan, patience_seconds=START_PATIENCE_SECONDS)
    errors = found.report.of_level(Level.ERROR)
    if errors and found.report.pictures:
        faults = [
            Fault(
                ("dataset_id", *([filename] if filename else [])), f"{filename or 'Dataset'}: {each.message}", each.code
            )
            for filename, each in errors
        ]
        raise FaultsError(
            faults, code="preflight_failed", hint=f"See /api/datasets/{dataset_id}/preflight for what to do about it."
        )
    return found


async def _images(
    session: AsyncSession, dataset_id: UUID, version_id: UUID | None
) -> list[DatasetImage] | list[DatasetVersionImage]:
    if version_id is None:
        return await datasets.images(session, dataset_id)
    return await dataset_versions.images(session, version_id)


def _picture(image: DatasetImage | DatasetVersionImage) -> Picture:
    return Picture(
        id=image.image_id if isinstance(image, DatasetVersionImage) else image.id,
        filename=image.filename,
        sha256=image.sha256,
        width=image.width,
        height=image.height,
        caption=image.caption,
        caption_source=image.caption_source,
    )


def _clip_tokens(settings: Settings) -> ClipTokens | None:
    path = locate.clip_merges(settings)
    return None if path is None else _read_tokens(path)


@lru_cache(maxsize=1)
def _read_tokens(path: Path) -> ClipTokens:
    return ClipTokens.of(path.read_text(encoding="utf-8"))
