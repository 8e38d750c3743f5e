"""What a training will take here: memory of the GPU, disk, time."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.domain.disk import training_bytes
from api.domain.job import Status
from api.domain.training import FluxTrainingConfig
from api.domain.training_estimate import Done, TimeEstimate, megapixels, time_needed, vram_gb
from api.engines import catalogue, locate
from api.engines.catalogue import BaseModel, TrainingPrecision
from api.errors import EngineError, UnavailableError
from api.models import DatasetPicture, TrainingSession
from api.services import trainings
from api.services.bases import PREFERRED
from api.settings import Settings

LATEST = 20
_HELD_AS = {
    "no_change": TrainingPrecision.BF16,
    "fp8-quanto": TrainingPrecision.INT8,  # as large
    "int8-quanto": TrainingPrecision.INT8,
    "int4-quanto": TrainingPrecision.NF4,
    "nf4-bnb": TrainingPrecision.NF4,
}


@dataclass(frozen=True, slots=True)
class VramEstimate:
    precision: str
    """That the base model is held in."""
    gb: float


@dataclass(frozen=True, slots=True)
class Estimate:
    vram: tuple[VramEstimate, ...]
    """For each precision that the training may use, the largest first; empty where no GPU is needed."""
    disk_bytes: int | None
    """At most; None when the base model is not on this machine, so that its layers are not known."""
    time: TimeEstimate | None


async def estimate(
    session: AsyncSession,
    settings: Settings,
    base_model: str,
    config: FluxTrainingConfig,
    images: Sequence[DatasetPicture],
) -> Estimate:
    base = catalogue.get(base_model)
    done = await _done(session, base_model)
    return Estimate(
        vram=_vram(base, config),
        disk_bytes=await asyncio.to_thread(_disk, settings, base_model, config, images),
        time=time_needed(config, done, documented=base_model == PREFERRED),
    )


def _vram(base: BaseModel, config: FluxTrainingConfig) -> tuple[VramEstimate, ...]:
    asked = _HELD_AS.get(config.base_model_precision)
    rows = [row for row in base.training if asked is None or row.choice == asked]
    return tuple(VramEstimate(str(row.choice), vram_gb(config, row.at_least_gb)) for row in rows)


def _disk(
    settings: Settings, base_model: str, config: FluxTrainingConfig, images: Sequence[DatasetPicture]
) -> int | None:
    try:
        layers = locate.base_lora_targets(locate.base_model(settings, base_model))
    except (UnavailableError, EngineError):
        return None
    return training_bytes(
        config, layers, [image.size_bytes for image in images], stored_here=not settings.s3_bucket_name
    )


async def _done(session: AsyncSession, base_model: str) -> list[Done]:
    """The latest trainings of this base model that ended well."""
    row = TrainingSession
    query = sa.select(row).where(col(row.status) == Status.COMPLETED.value).order_by(col(row.created_at).desc())
    found = []
    for each in await session.scalars(query.limit(LATEST)):
        if each.config["base_model"] != base_model or each.started_at is None or each.completed_at is None:
            continue
        own = 1 - each.start_step / each.total_steps  # an extended one has trained the rest only
        seen = megapixels(trainings.config_of(each)) * own
        found.append(Done((each.completed_at - each.started_at).total_seconds(), seen))
    return found
