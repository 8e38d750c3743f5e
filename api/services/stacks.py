"""The LoRAs of a picture: models of the library, and training checkpoints that are tried before they become one."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from api.domain.generation import LoraChoice
from api.errors import NotFoundError
from api.models import Model, TrainingCandidate
from api.services import candidates, loras
from api.storage import Storage

Lora = Model | TrainingCandidate


async def usable(session: AsyncSession, storage: Storage, choices: Sequence[LoraChoice]) -> list[Lora]:
    """What is chosen, in this order, each with its file in the storage.

    Raises NotFoundError, and ConflictError `model_file_missing` for a row whose file is gone.
    """
    found = [await _find(session, choice) for choice in choices]
    for lora in found:
        await loras.require_file(storage, lora.name, lora.storage_path)
    return found


async def _find(session: AsyncSession, choice: LoraChoice) -> Lora:
    if choice.model_id is not None:
        return await loras.get(session, choice.model_id)
    if choice.checkpoint_id is None:
        raise RuntimeError("a choice names one of both")
    return await candidates.by_id(session, choice.checkpoint_id)


def entry(lora: Lora, scale: float | None) -> dict[str, Any]:
    """What `generation_config` says of it."""
    return {
        **_identity(lora),
        "scale": scale,
        "file": lora.file_name,
        "storage_path": lora.storage_path,
        "sha256": lora.model_metadata["sha256"] if isinstance(lora, Model) else lora.sha256,
    }


def _identity(lora: Lora) -> dict[str, Any]:
    if isinstance(lora, Model):
        return {"model_id": str(lora.id)}
    return {"checkpoint_id": str(lora.id), "training_id": str(lora.session_id), "step": lora.step}


async def find_again(session: AsyncSession, entry_: dict[str, Any]) -> Lora | None:
    """The LoRA of an entry; None when it is gone."""
    try:
        return await _find(session, LoraChoice.model_validate({**choice(entry_), "scale": 1.0}))
    except NotFoundError:
        return None


def choice(entry_: dict[str, Any]) -> dict[str, Any]:
    """What asks for the LoRA of an entry again."""
    name = "model_id" if "model_id" in entry_ else "checkpoint_id"
    return {name: entry_[name], "scale": entry_["scale"]}
