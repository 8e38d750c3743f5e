"""LoRA files on their way in, trained here or made elsewhere: checked for their base model, then kept by content."""

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, ConfigDict
from sqlalchemy.ext.asyncio import AsyncSession

from api.db import Sessions
from api.domain.engine import InstalledBase
from api.domain.lora_family import Kin, kin_of
from api.domain.lora_file import Targets, content_name, require_match
from api.domain.lora_metadata import trigger_word
from api.domain.text import Name, Sha256
from api.engines import locate
from api.errors import InputError, UnavailableError
from api.lease import new_owner
from api.models import Model
from api.services import cards, loras
from api.services.unrecorded import recorded, unrecorded
from api.settings import Settings
from api.storage import Storage, StoredFile
from api.trainer.lora import LoraFile, check_lora, single_file_targets

BYTES_PER_MB = 1024 * 1024


class ImportForm(BaseModel):
    """The fields of an import besides its file."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    base_model: Name | None = None
    trigger_word: Name | None = None
    sha256: Sha256 | None = None


@dataclass(frozen=True, slots=True)
class ExaminedLora:
    """A LoRA of which it is known for what it was made."""

    checked: LoraFile
    sha256: str
    base: Kin


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


async def examine(settings: Settings, path: Path, base_model: str | None) -> ExaminedLora:
    """The file, for the base model that is named, else for the one that its keys and shapes fit.

    Raises InputError as `check` does, `lora_family_unknown`, `base_model_unknown`; UnavailableError when the base model
    that is named is not installed.
    """
    base = None if base_model is None else locate.base_model(settings, base_model)
    return await asyncio.to_thread(_examine, settings, path, base)


def _examine(settings: Settings, path: Path, named: InstalledBase | None) -> ExaminedLora:
    checked, sha256 = read(path)
    kin = kin_of(checked.modules) if named is None else Kin(named.name)
    base = named or _installed(settings, kin.name)
    if base is not None:
        require_match(checked.modules, _targets(base), base_model=base.name)
    return ExaminedLora(checked, sha256, kin)


def _installed(settings: Settings, name: str) -> InstalledBase | None:
    """None for a base model that is not installed, or a family that is only recognised."""
    return locate.base_model(settings, name) if name in locate.installed_bases(settings) else None


def read(path: Path) -> tuple[LoraFile, str]:
    """The file and its SHA-256, once it is proved to be a whole LoRA."""
    return check_lora(path), file_sha256(path)


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_key(name: str, sha256: str, tag: str) -> str:
    """Where one try stores a LoRA of this name and content; another try, by its `tag`, stores elsewhere."""
    return f"models/{tag}/{content_name(name, sha256)}"


async def put(storage: Storage, key: str, path: Path, checked: LoraFile) -> KeptLora:
    """Raises StorageError."""
    return KeptLora(checked, await storage.put_file(key, path, "application/octet-stream"))


def _check(path: Path, base: InstalledBase) -> tuple[LoraFile, str]:
    checked, sha256 = read(path)
    require_match(checked.modules, _targets(base), base_model=base.name)
    return checked, sha256


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
    session: AsyncSession,
    kept: KeptLora,
    *,
    name: str,
    base: InstalledBase | Kin,
    metadata: dict[str, Any],
    **fields: Any,
) -> Model:
    """The row of a LoRA that is in the storage; its version counts the LoRAs of one name."""
    about = {
        "sha256": kept.stored.sha256,
        "size_bytes": kept.stored.size,
        "rank": kept.checked.rank,
        "modules": len(kept.checked.modules),
    }
    where = kept.stored.key
    model = await new_model(session, about, metadata, name=name, base_model=base.name, storage_path=where, **fields)
    await recorded(session, where)
    return model


async def new_model(
    session: AsyncSession, about: dict[str, Any], metadata: dict[str, Any], *, name: str, **fields: Any
) -> Model:
    """The row of a file that is stored; `about` has its `sha256`, `size_bytes`, `rank` and `modules`."""
    model = Model(
        name=name,
        version=await loras.next_version(session, name),
        file_size_mb=round(about["size_bytes"] / BYTES_PER_MB, 3),
        model_metadata={**about, **metadata},
        **fields,
    )
    session.add(model)
    await session.flush()
    return model


@dataclass(frozen=True, slots=True)
class Imported:
    model: Model
    duplicate: bool
    """It was here before, with the same content; nothing was kept twice, and nothing of it was changed."""


async def register(
    sessions: Sessions, session: AsyncSession, storage: Storage, settings: Settings, form: ImportForm, path: Path
) -> Imported:
    """Import a LoRA made elsewhere; `session` is where it becomes visible, in the caller's transaction.

    Raises InputError with nothing kept, UnavailableError without the base model that is named.
    """
    examined = await examine(settings, path, form.base_model)
    if form.sha256 is not None and form.sha256 != examined.sha256:
        raise InputError(
            f"The file has SHA-256 {examined.sha256}, not {form.sha256}.",
            code="hash_mismatch",
            value=examined.sha256,
            hint="Send it again if it may have been damaged on its way; else check which file you want.",
        )
    same = await loras.same_content(session, storage, examined.sha256, examined.base.name)
    if same is not None:
        return Imported(same, duplicate=True)
    key = file_key(form.name, examined.sha256, uuid4().hex)
    async with unrecorded(sessions, storage, key, new_owner()):
        kept = await put(storage, key, path, examined.checked)
        return Imported(await add_imported(session, kept, examined, form.name, form.trigger_word), duplicate=False)


async def add_imported(
    session: AsyncSession,
    kept: KeptLora,
    examined: ExaminedLora,
    name: str,
    word: str | None,
    source: str | None = None,
) -> Model:
    """The row of an import, from `source`; without a trigger word that is given, the file's own is taken."""
    word = word or trigger_word(examined.checked.metadata)
    base = examined.base
    return await add_model(
        session,
        kept,
        name=name,
        base=base,
        metadata={},
        model_type=base.model_type,
        trigger_word=word,
        card={"base": cards.of_base(base.name), **({"source": source} if source else {})},
    )
