"""LoRAs: find them, prove that their files are there, delete them."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.errors import ConflictError, NotFoundError
from api.models import Model
from api.services import awaited
from api.services.unrecorded import dismiss
from api.storage import Storage


async def get(session: AsyncSession, model_id: UUID) -> Model:
    model = await session.get(Model, model_id)
    if model is None:
        raise NotFoundError("There is no model with this id.", code="model_not_found", value=str(model_id))
    return model


async def usable(session: AsyncSession, storage: Storage, ids: Sequence[UUID]) -> list[Model]:
    """These models, in this order, each with its file in the storage.

    Raises NotFoundError, and ConflictError `model_file_missing` for a row whose file is gone.
    """
    models = [await get(session, model_id) for model_id in ids]
    for model in models:
        if await storage.size(model.storage_path) is None:
            raise ConflictError(
                f"The file of LoRA {model.name!r} is gone from the storage.",
                code="model_file_missing",
                value=model.storage_path,
                hint="Import the file again, or delete this model.",
            )
    return models


async def delete(session: AsyncSession, model_id: UUID) -> None:
    """Remove the row; its file is removed soon.

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
    dismiss(session, model.storage_path)
    await session.delete(model)
    await session.flush()


async def _waiting_pictures(session: AsyncSession, model_id: UUID) -> int:
    """How many pictures that use this LoRA, first in their stack or not, are pending or being made."""
    return sum(str(model_id) in _models_of(config) for config in await awaited.configs(session))


def _models_of(config: dict[str, Any]) -> list[str]:
    """Those that were asked for, and those that the workflow itself names."""
    return [lora["model_id"] for lora in (*config["loras"], *config.get("fixed_loras", ()))]
