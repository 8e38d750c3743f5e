"""A training checkpoint becomes a model: its file is ready since it was stored, so nothing is copied or converted."""

from dataclasses import dataclass

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.domain.text import Name
from api.errors import ConflictError
from api.models import Model, TrainingCandidate, TrainingSession
from api.services import candidates
from api.services.lora_intake import new_model
from api.storage import Storage


class PromoteRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"example": {"name": "ohwx"}})

    name: Name | None = Field(None, description="Of the model; default: the training's, with the step.")
    trigger_word: Name | None = Field(None, description="Default: the training's.")


@dataclass(frozen=True, slots=True)
class Promoted:
    model: Model
    duplicate: bool
    """It was there before; nothing of it was changed, but that it was restored if it was deleted."""


async def promote(
    session: AsyncSession, storage: Storage, row: TrainingSession, step: int, wish: PromoteRequest
) -> Promoted:
    """Promoting twice gives the same model; so does promoting what the finished training has registered.

    Raises NotFoundError `checkpoint_not_found`, ConflictError `checkpoint_file_missing`.
    """
    found = await candidates.get(session, row.id, step)
    await _hold(session, found)
    key = (await candidates.by_id(session, found.id)).storage_path
    if key is None or await storage.size(key) is None:
        raise ConflictError(
            "The file of this training checkpoint is gone from the storage.", code="checkpoint_file_missing", value=step
        )
    same = await _same(session, found)
    if same is not None:
        same.deleted_at = None
        await session.flush()
        return Promoted(same, duplicate=True)
    metadata = {"alpha": row.config["alpha"], "steps": step, "checkpoint_step": step}
    model = await new_model(
        session,
        {"sha256": found.sha256, "size_bytes": found.size_bytes, "rank": found.rank, "modules": found.modules},
        metadata,
        name=wish.name or found.name,
        base_model=found.base_model,
        storage_path=key,
        training_session_id=row.id,
        model_type=row.model_type,
        trigger_word=wish.trigger_word or found.trigger_word,
        card=found.card,
    )
    return Promoted(model, duplicate=False)


async def _hold(session: AsyncSession, found: TrainingCandidate) -> None:
    """Until the end of the transaction nobody removes it or promotes it, too."""
    mine = sa.update(TrainingCandidate).where(col(TrainingCandidate.id) == found.id)
    await session.execute(mine.values(name=TrainingCandidate.name), execution_options=candidates.AS_IT_IS)
    await session.refresh(found)


async def _same(session: AsyncSession, found: TrainingCandidate) -> Model | None:
    """The model that this training has of this content; one that was deleted only if there is no other."""
    same = [
        col(Model.training_session_id) == found.session_id,
        col(Model.model_metadata)["sha256"].as_string() == found.sha256,
    ]
    order = col(Model.deleted_at).is_not(None), col(Model.created_at)
    return await session.scalar(sa.select(Model).where(*same).order_by(*order).limit(1))
