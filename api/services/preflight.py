"""A dataset looked at before it is trained on, by whoever asks and by every training's start."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from uuid import UUID

from api.domain.clip_tokens import ClipTokens
from api.domain.preflight import Intent, Picture, Report, examine
from api.domain.set_verdicts import Subject
from api.domain.training import FluxTrainingConfig
from api.domain.verdict import Level
from api.engines import locate
from api.errors import Fault, FaultsError
from api.models import Dataset, DatasetImage
from api.resources import Resources
from api.services import datasets, measuring, training_estimates
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
        images = await datasets.images(session, dataset_id)
        estimate = await training_estimates.estimate(session, resources.settings, plan.base_model, plan.config, images)
    found = await measuring.look_at(resources, images, patience_seconds)
    trigger_word = plan.config.trigger_word or dataset.trigger_word
    intent = Intent(
        resolution=plan.config.resolution,
        images_per_step=plan.config.batch_size * plan.config.gradient_accumulation_steps,
        trigger_word=trigger_word,
        name=plan.name or dataset.name,
        subject=plan.subject,
    )
    tokens = await asyncio.to_thread(_clip_tokens, resources.settings)
    report = await asyncio.to_thread(examine, _pictures(images), intent, found, tokens)
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


def _pictures(images: Sequence[DatasetImage]) -> list[Picture]:
    return [
        Picture(each.id, each.filename, each.sha256, each.width, each.height, each.caption, each.caption_source)
        for each in images
    ]


def _clip_tokens(settings: Settings) -> ClipTokens | None:
    path = locate.clip_merges(settings)
    return None if path is None else _read_tokens(path)


@lru_cache(maxsize=1)
def _read_tokens(path: Path) -> ClipTokens:
    return ClipTokens.of(path.read_text(encoding="utf-8"))
