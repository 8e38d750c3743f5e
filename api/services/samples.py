"""The pictures that a trainer drew on its way: assets like any other, each with its step and its prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.domain.samples import GUIDANCE, TAG, SampleName
from api.domain.upload import BYTES_PER_MB
from api.models import GeneratedAsset, TrainingSample, TrainingSession
from api.models.base import utcnow
from api.services import jobs
from api.services.jobs import Lease
from api.services.pages import Page, page
from api.services.unrecorded import recorded
from api.storage import StoredFile


@dataclass(frozen=True, slots=True)
class Shown:
    """A sample whose picture is there."""

    sample: TrainingSample
    asset: GeneratedAsset


async def of_session(session: AsyncSession, session_id: UUID) -> list[Shown]:
    """By step and prompt; without those whose picture was deleted."""
    query = (
        sa.select(TrainingSample, GeneratedAsset)
        .join(GeneratedAsset, col(GeneratedAsset.id) == col(TrainingSample.asset_id))
        .where(col(TrainingSample.session_id) == session_id, col(GeneratedAsset.deleted_at).is_(None))
        .order_by(col(TrainingSample.step), col(TrainingSample.position))
    )
    return [Shown(sample, asset) for sample, asset in (await session.execute(query)).all()]


async def listed(
    session: AsyncSession,
    session_id: UUID,
    *,
    limit: int,
    cursor: str | None,
    step: int | None = None,
    position: int | None = None,
) -> Page[Shown]:
    """The same, newest first, of this step or this prompt alone. Raises InputError `cursor_invalid`."""
    is_there = sa.exists().where(
        col(GeneratedAsset.id) == col(TrainingSample.asset_id), col(GeneratedAsset.deleted_at).is_(None)
    )
    where = [col(TrainingSample.session_id) == session_id, is_there]
    where += [] if step is None else [col(TrainingSample.step) == step]
    where += [] if position is None else [col(TrainingSample.position) == position]
    found = await page(session, TrainingSample, limit=limit, cursor=cursor, where=where)
    ids = [sample.asset_id for sample in found.items]
    assets = {
        asset.id: asset
        for asset in await session.scalars(sa.select(GeneratedAsset).where(col(GeneratedAsset.id).in_(ids)))
    }
    return Page([Shown(sample, assets[sample.asset_id]) for sample in found.items], found.next_cursor)


async def steps_of(session: AsyncSession, session_id: UUID) -> set[tuple[int, int]]:
    """(step, position) of all that were ever stored, also of those that were purged."""
    query = sa.select(col(TrainingSample.step), col(TrainingSample.position))
    rows = await session.execute(query.where(col(TrainingSample.session_id) == session_id))
    return {(step, position) for step, position in rows.all()}


def new_asset(training: TrainingSession, name: SampleName, prompts: Sequence[str]) -> GeneratedAsset:
    """The row of a picture that is about to be stored."""
    config = training.config
    return GeneratedAsset(
        prompt=prompts[name.position],
        generation_config={
            "base_model": config["base_model"],
            "seed": config["sample_seed"],
            "width": name.width,
            "height": name.height,
            "num_inference_steps": config["sample_steps"],
            "guidance_scale": GUIDANCE,
            "loras": [],
            "sample": {"training_session_id": str(training.id), "step": name.step, "position": name.position},
            "output": {"width": name.width, "height": name.height},
        },
        tags=[TAG],
        created_at=utcnow(),
    )


async def record(
    session: AsyncSession, lease: Lease, training_id: UUID, name: SampleName, asset: GeneratedAsset, stored: StoredFile
) -> None:
    """In one transaction with the end of its announcement as an unrecorded file.

    Raises LeaseLostError, IntegrityError when it was stored before.
    """
    await jobs.require_held(session, lease)
    asset.storage_path, asset.file_size_mb = stored.key, round(stored.size / BYTES_PER_MB, 3)
    asset.generation_config = {
        **asset.generation_config,
        "output": {**asset.generation_config["output"], "sha256": stored.sha256},
    }
    await jobs.add_done(session, asset)
    session.add(TrainingSample(session_id=training_id, step=name.step, position=name.position, asset_id=asset.id))
    await session.flush()
    await recorded(session, stored.key)
