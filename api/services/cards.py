"""Model cards: how a LoRA was made, written down when it is registered, so that it is true whatever comes later."""

from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.domain.card import Record, engines_at
from api.engines.catalogue import BASE_MODELS
from api.models import Dataset, DatasetVersion, GeneratedAsset, Model, TrainingSample, TrainingSession


async def of_training(session: AsyncSession, row: TrainingSession, step: int, loss: float | None = None) -> Record:
    """Of the LoRA that this training had made after `step` steps."""
    about: dict[str, Any] = {"id": str(row.id), "name": row.name, "created_at": row.created_at.isoformat()}
    if row.parent_session_id is not None:
        about |= {"parent_id": str(row.parent_session_id), "start_step": row.start_step}
    return {
        "session": about,
        "dataset": await _dataset(session, row),
        "config": row.config,
        "seed": row.config["seed"],
        "step": step,
        "loss": loss,
        "engines": engines_at(row.made_with, step),
        "base": of_base(row.config["base_model"]),
    }


def of_base(name: str) -> dict[str, Any]:
    """Also of a family that is only recognised, of which nothing else is known."""
    known = BASE_MODELS.get(name)
    if known is None:
        return {"name": name}
    return {
        "name": name,
        "family": known.family,
        "licence": known.licence or None,
        "licence_url": known.licence_url or None,
    }


async def _dataset(session: AsyncSession, row: TrainingSession) -> dict[str, Any] | None:
    dataset = None if row.dataset_id is None else await session.get(Dataset, row.dataset_id)
    if dataset is None:
        return None
    about = {"id": str(dataset.id), "name": dataset.name, "images": dataset.image_count}
    version = None if row.dataset_version_id is None else await session.get(DatasetVersion, row.dataset_version_id)
    if version is None:
        return about
    return {**about, "version": version.number, "version_id": str(version.id), "images": version.image_count}


async def shown(session: AsyncSession, model: Model) -> dict[str, Any]:
    """What was written down, with what the row says itself and the samples there are; null where nothing is known."""
    metadata, record = model.model_metadata, model.card
    return {
        "model_id": model.id,
        "name": model.name,
        "version": model.version,
        "model_type": model.model_type,
        "file_name": model.file_name,
        "file_size_mb": model.file_size_mb,
        "sha256": metadata.get("sha256"),
        "rank": metadata.get("rank"),
        "alpha": metadata.get("alpha"),
        "trigger_words": [model.trigger_word] if model.trigger_word else [],
        "created_at": model.created_at,
        "source": record.get("source"),
        "base": record.get("base") or of_base(model.base_model),
        **{name: record.get(name) for name in ("session", "dataset", "config", "seed", "step", "loss", "engines")},
        "samples": await _samples(session, model.training_session_id, record.get("step")),
    }


async def _samples(session: AsyncSession, session_id: UUID | None, step: int | None) -> list[dict[str, Any]]:
    """What the training drew at this step, prompt by prompt, and was not deleted since."""
    query = (
        sa.select(GeneratedAsset)
        .join(TrainingSample, col(TrainingSample.asset_id) == col(GeneratedAsset.id))
        .where(col(TrainingSample.session_id) == session_id, col(TrainingSample.step) == step)
        .where(col(GeneratedAsset.deleted_at).is_(None))
        .order_by(col(TrainingSample.position))
    )
    found = await session.scalars(query) if session_id is not None and step is not None else ()
    return [
        {"step": step, "asset_id": str(each.id), "prompt": each.prompt, "url": f"/api/assets/{each.id}/file"}
        for each in found
    ]
