"""A LoRA from the web: downloaded, checked, kept by its content."""

import asyncio
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import sqlalchemy as sa
from huggingface_hub import hf_hub_url
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.disk import Need
from api.domain.disk import shown_bytes
from api.domain.hub import promised_sha256
from api.domain.web_address import shown_url
from api.errors import InputError, JobError
from api.fetch.download import BYTES_PER_MB, Wanted, download
from api.fetch.web import Answer, Secret, Web
from api.models import Model, ModelImport
from api.services import lora_intake, loras
from api.services.lora_intake import ExaminedLora, KeptLora
from api.services.unrecorded import unrecorded
from api.settings import Settings
from api.tasks.attempt import Attempt
from api.tasks.patience import patiently
from api.tasks.room import make_room

DOWNLOADED_PERCENT = 90.0
STORING_PERCENT = 95.0
COPIES = 2
"""The download, and the file in the storage, which may be on the same disk."""


def imports_root(settings: Settings) -> Path:
    return settings.masuka_data_dir / "imports"


def import_folder(settings: Settings, import_id: UUID) -> Path:
    """Where an import goes on after a crash; its own."""
    return imports_root(settings) / str(import_id)


@dataclass(slots=True)
class Watch:
    """What the download tells."""

    attempt: Attempt
    folder: Path
    sha256: str | None
    """What the content must be: as the owner says, else as the hub does."""
    hub: str | None
    """The host of the hub, when the file is from there."""

    async def answered(self, answer: Answer, total: int | None) -> None:
        self.sha256 = self.sha256 or promised_sha256(answer.passed, answer.response.headers, self.hub)
        if total is not None:
            await make_room(self.attempt, Need(COPIES * total, (self.folder,)))

    async def received(self, have: int, total: int | None) -> None:
        of_all = "" if total is None else f" of {shown_bytes(total)}"
        percent = DOWNLOADED_PERCENT * have / total if total else 0.0
        await self.attempt.progress(
            stage="downloading", progress=percent, message=f"Downloading: {shown_bytes(have)}{of_all}"
        )


async def import_model(web: Web, attempt: Attempt) -> None:
    """Run one attempt; a later one goes on with what is on the disk.

    Raises InputError and JobError as `download` and `lora_intake.examine` do, JobError `hash_mismatch`, StorageError.
    """
    settings = attempt.resources.settings
    row = await _row_of(attempt)
    folder = import_folder(settings, row.id)
    if row.sha256 is None or not await _is_here(attempt, row, row.sha256):
        wanted, hub = _wanted(settings, row.source)
        watch = Watch(attempt, folder, row.sha256, hub)
        await attempt.progress(urgent=True, stage="downloading", message="Asking the server for the file")
        path = await download(web, wanted, folder, watch)
        examined = await _examine(attempt, row, path, watch.sha256)
        if not await _is_here(attempt, row, examined.sha256, examined.base.name):
            await _keep(attempt, row, path, examined)
    await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _row_of(attempt: Attempt) -> ModelImport:
    async with attempt.resources.sessions() as session:
        row = await session.scalar(sa.select(ModelImport).where(col(ModelImport.task_id) == attempt.job_id))
    if row is None:
        raise JobError("The import of this job is gone.", code="import_gone", value=str(attempt.job_id))
    return row


def _wanted(settings: Settings, source: dict[str, Any]) -> tuple[Wanted, str | None]:
    """What to download, and the hub's host when it is from there: only that host sees the token."""
    limit, setting = settings.masuka_max_lora_mb * BYTES_PER_MB, "MASUKA_MAX_LORA_MB"
    if "url" in source:
        return Wanted(source["url"], limit, setting), None
    url = hf_hub_url(source["repo"], source["file"], revision=source["revision"])
    host = urlsplit(url).hostname or ""
    return Wanted(url, limit, setting, Secret(host, settings.hf_token.get_secret_value())), host


async def _is_here(attempt: Attempt, row: ModelImport, sha256: str, base_model: str | None = None) -> bool:
    """Complete with the LoRA that has this content, if there is one."""
    resources = attempt.resources
    async with resources.sessions() as session:
        model = await loras.same_content(session, resources.storage, sha256, base_model or row.base_model)
    if model is None:
        return False
    await attempt.complete(lambda session: _record(session, row, model, duplicate=True))
    return True


async def _examine(attempt: Attempt, row: ModelImport, path: Path, sha256: str | None) -> ExaminedLora:
    """What is refused is removed: it would not become better by a download that goes on behind it."""
    await attempt.progress(urgent=True, stage="checking", progress=DOWNLOADED_PERCENT, message="Checking the file")
    try:
        if sha256 is not None:
            await asyncio.to_thread(_require_hash, path, sha256)
        return await lora_intake.examine(attempt.resources.settings, path, row.base_model)
    except (InputError, HashMismatchError):
        await asyncio.to_thread(shutil.rmtree, path.parent, ignore_errors=True)
        raise


class HashMismatchError(JobError):
    """The file that came is not the one that was promised."""

    default_code = "hash_mismatch"


def _require_hash(path: Path, sha256: str) -> None:
    found = lora_intake.file_sha256(path)
    if found != sha256:
        raise HashMismatchError(
            f"The file that came has SHA-256 {found}, not {sha256}.",
            value=found,
            hint="Retry the job if it may have been damaged on its way; else check which file you want.",
        )


async def _keep(attempt: Attempt, row: ModelImport, path: Path, examined: ExaminedLora) -> None:
    """Store the LoRA, read back, and record it: the job is complete."""
    await attempt.progress(stage="storing", progress=STORING_PERCENT, message="Storing the LoRA")
    storage, key = attempt.resources.storage, lora_intake.file_key(row.name, examined.sha256, attempt.tag)
    async with unrecorded(attempt.resources.sessions, storage, key, attempt.lease.owner):
        kept = await patiently(attempt, partial(lora_intake.put, storage, key, path, examined.checked))
        await attempt.complete(lambda session: _add(session, row, kept, examined))


async def _add(session: AsyncSession, row: ModelImport, kept: KeptLora, examined: ExaminedLora) -> None:
    where = _source(row.source)
    model = await lora_intake.add_imported(session, kept, examined, row.name, row.trigger_word, where)
    await _record(session, row, model, duplicate=False)


def _source(source: dict[str, Any]) -> str:
    """For the model's card; the query of a URL may hold a token."""
    if "url" in source:
        return shown_url(source["url"])
    return f"{source['repo']}/{source['file']}@{source['revision']}"


async def _record(session: AsyncSession, row: ModelImport, model: Model, *, duplicate: bool) -> None:
    mine = sa.update(ModelImport).where(col(ModelImport.id) == row.id)
    await session.execute(mine.values(model_id=model.id, duplicate=duplicate))
