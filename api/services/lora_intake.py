"""LoRA files on their way in, trained here or made elsewhere: checked against the base model, then kept by content."""

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.db import Sessions
from api.domain.engine import InstalledBase
from api.domain.lora_file import Targets, content_name, require_match
from api.domain.text import Name
from api.engines import locate
from api.errors import InputError, UnavailableError
from api.lease import new_owner
from api.models import Model
from api.services.unrecorded import recorded, unrecorded
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


async def check(path: Path, base: InstalledBase) -> tuple[LoraFile, str]:
    """The file and its SHA-256, once it is proved to fit the base model.

    Raises InputError `lora_invalid`, `lora_not_finite` or `lora_keys_mismatch`, and UnavailableError when the base
    model's own files are gone.
    """
    return await asyncio.to_thread(_check, path, base)


def file_key(name: str, sha256: str, tag: str) -> str:
    """Where one try stores a LoRA of this name and content; another try, by its `tag`, stores elsewhere."""
    return f"models/{tag}/{content_name(name, sha256)}"


async def put(storage: Storage, key: str, path: Path, checked: LoraFile) -> KeptLora:
    """Raises StorageError."""
    return KeptLora(checked, await storage.put_file(key, path, "application/octet-stream"))


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
    await recorded(session, kept.stored.key)
    await session.flush()
    return model


async def register(
    sessions: Sessions, session: AsyncSession, storage: Storage, settings: Settings, form: ImportForm, path: Path
) -> Model:
    """Import a LoRA made elsewhere; `session` is where it becomes visible, in the caller's transaction.

    Raises InputError with nothing kept, UnavailableError without the base model."""
    base = locate.base_model(settings, form.base_model)
    checked, sha256 = await check(path, base)
    key = file_key(form.name, sha256, uuid4().hex)
    async with unrecorded(sessions, storage, key, new_owner()):
        kept = await put(storage, key, path, checked)
        return await add_model(session, kept, name=form.name, base=base, metadata={}, trigger_word=form.trigger_word)
