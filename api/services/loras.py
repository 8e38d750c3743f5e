"""LoRAs: find them, prove that their files are there, name them, delete and restore them."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.domain.text import Name
from api.errors import ConflictError, NotFoundError
from api.models import Model
from api.models.base import utcnow
from api.services import awaited
from api.services.unrecorded import dismiss
from api.storage import Storage

VISIBLE = col(Model.deleted_at).is_(None)
DELETED = col(Model.deleted_at).is_not(None)


class ModelChanges(BaseModel):
    """What may be changed of a LoRA; its file and the name of that never change."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"example": {"name": "ohwx", "trigger_word": "ohwx person"}}
    )

    name: Name | None = None
    trigger_word: Name | None = Field(None, description="null: it has none.")


async def get(session: AsyncSession, model_id: UUID) -> Model:
    """Raises NotFoundError, also for one that was deleted."""
    model = await session.get(Model, model_id)
    if model is None or model.deleted_at is not None:
        raise _not_found(model_id)
    return model


async def require_file(storage: Storage, name: str, storage_path: str | None) -> None:
    """Raises ConflictError `model_file_missing` for a LoRA whose file is gone."""
    if storage_path is None or await storage.size(storage_path) is None:
        raise ConflictError(
            f"The file of LoRA {name!r} is gone from the storage.",
            code="model_file_missing",
            value=storage_path,
            hint="Import the file again, or delete this model.",
        )


async def next_version(session: AsyncSession, name: str) -> int:
    """The LoRAs of one name are counted, the deleted ones with them."""
    latest = await session.scalar(sa.select(sa.func.max(col(Model.version))).where(col(Model.name) == name))
    return (latest or 0) + 1


async def same_content(session: AsyncSession, storage: Storage, sha256: str, base_model: str | None) -> Model | None:
    """A LoRA that is here, file and all, with this content; of several the oldest. None of a base: any."""
    same = [VISIBLE, col(Model.model_metadata)["sha256"].as_string() == sha256]
    if base_model is not None:
        same.append(col(Model.base_model) == base_model)
    for model in await session.scalars(sa.select(Model).where(*same).order_by(col(Model.created_at))):
        if await storage.size(model.storage_path) is not None:
            return model
    return None


async def change(session: AsyncSession, model_id: UUID, changes: ModelChanges) -> Model:
    """Raises NotFoundError. With a new name it is the next version of that name."""
    model = await get(session, model_id)
    if changes.name is not None and changes.name != model.name:
        model.name, model.version = changes.name, await next_version(session, changes.name)
    if "trigger_word" in changes.model_fields_set:
        model.trigger_word = changes.trigger_word
    await session.flush()
    return model


# ---- delete and restore ------------------------------------------------------------------------------------------


async def delete(session: AsyncSession, model_id: UUID) -> None:
    """Out of sight, and to be restored until `purge`.

    Raises NotFoundError, and ConflictError `model_in_use` while a picture with it waits or runs.
    """
    model = await get(session, model_id)
    users = await _waiting_pictures(session, model_id)
    if users:
        raise ConflictError(
            f"{users} pictures with this LoRA are still waited for.",
            code="model_in_use",
            value=users,
            hint="Wait for them, or cancel them first.",
        )
    model.deleted_at = utcnow()
    await session.flush()


async def restore(session: AsyncSession, model_id: UUID) -> Model:
    """As it was; one that is not deleted stays as it is. Raises NotFoundError, also after its file was removed."""
    back = sa.update(Model).where(col(Model.id) == model_id).values(deleted_at=None).returning(Model)
    model = await session.scalar(back.execution_options(populate_existing=True))
    if model is None:
        raise _not_found(model_id)
    return model


async def purge(session: AsyncSession, days: int) -> int:
    """Remove what was deleted so many days ago, for its file to be removed soon; how many LoRAs there were.

    One that a picture waits for stays: it was asked for at the moment when it was deleted.
    """
    over = col(Model.deleted_at) < utcnow() - timedelta(days=days)
    purged = 0
    for model_id in (await session.scalars(sa.select(col(Model.id)).where(over))).all():
        # Looks again: it may have been restored since.
        remove = sa.delete(Model).where(col(Model.id) == model_id, over).returning(col(Model.storage_path))
        if not await _waiting_pictures(session, model_id) and (key := await session.scalar(remove)) is not None:
            dismiss(session, key)
            purged += 1
    await session.flush()
    return purged


async def _waiting_pictures(session: AsyncSession, model_id: UUID) -> int:
    """How many pictures that use this LoRA, first in their stack or not, are pending or being made."""
    return sum(str(model_id) in _models_of(config) for config in await awaited.configs(session))


def _models_of(config: dict[str, Any]) -> list[str]:
    """Those that were asked for, and those that the workflow itself names."""
    return [lora["model_id"] for lora in (*config["loras"], *config.get("fixed_loras", ())) if "model_id" in lora]


def _not_found(model_id: UUID) -> NotFoundError:
    return NotFoundError("There is no model with this id.", code="model_not_found", value=str(model_id))
