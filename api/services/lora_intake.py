"""LoRA files on their way in, trained here or made elsewhere: checked against the base model, then kept by content."""

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.domain.engine import InstalledBase
from api.domain.lora_file import Targets, content_name, require_match
from api.domain.text import Name
from api.engines import locate
from api.errors import InputError, UnavailableError
from api.models import Model
from api.settings import Settings
from api.storage import Storage, StoredFile
from api.trainer.lora import LoraFile, check_lora, single_file_targets

BYTES_PER_MB = 1024 * 1024


class ImportForm(BaseModel):
    """The fields of an import besides its file."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    base_model: Name
    trigger_word: Name | None = None


@dataclass(frozen=True, slots=True)
class KeptLora:
    """A LoRA in the storage, read back."""

    checked: LoraFile
    stored: StoredFile


async def keep(storage: Storage, base: InstalledBase, name: str, path: Path) -> KeptLora:
    """Prove that the file fits the base model, and store it under a name made from its content.

    Raises InputError `lora_invalid`, `lora_not_finite` or `lora_keys_mismatch`, StorageError, and UnavailableError
    when the base model's own files are gone.
    """
    checked, sha256 = await asyncio.to_thread(_check, path, base)
    stored = await storage.put_file(file_key(name, sha256), path, "application/octet-stream")
    return KeptLora(checked, stored)


def file_key(name: str, sha256: str) -> str:
    """Where the storage has a LoRA of this name and content."""
    return f"models/{content_name(name, sha256)}"


def _check(path: Path, base: InstalledBase) -> tuple[LoraFile, str]:
    checked = check_lora(path)
    require_match(checked.modules, _targets(base), base_model=base.name)
    with path.open("rb") as file:
        return checked, hashlib.file_digest(file, "sha256").hexdigest()


def _targets(base: InstalledBase) -> Targets:
    """The layers of the base model by both of their names: trainers write the one or the other."""
    try:
        single_file = single_file_targets(base.models_dir / "diffusion_models" / base.unet_name)
    except (InputError, FileNotFoundError) as exc:
        raise UnavailableError(
            f"The weights of {base.name} cannot be read: {exc}",
            code="base_model_not_installed",
            value=base.name,
            hint=f"Run `masuka install {base.name}`.",
        ) from exc
    return {**locate.base_lora_targets(base), **single_file}


async def add_model(
    session: AsyncSession, kept: KeptLora, *, name: str, base: InstalledBase, metadata: dict[str, Any], **fields: Any
) -> Model:
    """The row of a LoRA that is in the storage; its version counts the LoRAs of one name."""
    earlier = await session.scalar(sa.select(sa.func.max(col(Model.version))).where(col(Model.name) == name))
    model = Model(
        name=name,
        version=(earlier or 0) + 1,
        base_model=base.name,
        storage_path=kept.stored.key,
        file_size_mb=round(kept.stored.size / BYTES_PER_MB, 3),
        model_metadata={
            "sha256": kept.stored.sha256,
            "size_bytes": kept.stored.size,
            "rank": kept.checked.rank,
            "modules": len(kept.checked.modules),
            **metadata,
        },
        **fields,
    )
    session.add(model)
    await session.flush()
    return model


async def register(session: AsyncSession, storage: Storage, settings: Settings, form: ImportForm, path: Path) -> Model:
    """Import a LoRA made elsewhere. Raises InputError with nothing kept, UnavailableError without the base model."""
    base = locate.base_model(settings, form.base_model)
    kept = await keep(storage, base, form.name, path)
    return await add_model(session, kept, name=form.name, base=base, metadata={}, trigger_word=form.trigger_word)
