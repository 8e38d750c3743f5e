"""What a trainer printed: where it runs while it runs, and in storage once its run is over."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.domain import masking
from api.domain.byte_range import choose, from_next_line, whole_characters
from api.errors import ConflictError, NotFoundError
from api.lease import is_here
from api.models import TrainingLog, TrainingSession
from api.services import jobs, trainings
from api.services.jobs import Lease
from api.services.training_folder import workdir_of
from api.services.unrecorded import dismiss, recorded
from api.settings import Settings
from api.storage import Storage, StoredFile
from api.storage.files import read_range
from api.trainer import process
from api.trainer.workdir import Workdir


class LogStream(StrEnum):
    STDOUT = "stdout"
    STDERR = "stderr"


@dataclass(frozen=True, slots=True)
class LogPart:
    data: bytes
    offset: int
    """Of the first byte of `data`."""
    next: int
    """Where to go on reading."""
    size: int
    """Of all there is by now."""
    live: bool
    """From the machine where the trainer runs, or ran; else from the storage, and then it is complete."""


@dataclass(frozen=True, slots=True)
class _Source:
    size: int
    path: Path | None = None
    key: str = ""


async def read(
    session: AsyncSession,
    storage: Storage,
    settings: Settings,
    session_id: UUID,
    stream: LogStream,
    *,
    offset: int | None,
    limit: int,
) -> LogPart:
    """At most `limit` bytes from `offset` on, or the end of the log; whole characters, secrets as stars.

    Of the newest run. Raises NotFoundError; ConflictError `log_not_yet`, `log_elsewhere`; StorageError.
    """
    row = await trainings.get(session, session_id)
    workdir = workdir_of(settings, session_id)
    source = await _find(session, row, workdir, stream)
    wanted = choose(source.size, offset, limit)
    hidden = secrets(settings, workdir)
    around = masking.margin(hidden)
    start, end = max(0, wanted.start - around), min(source.size, wanted.end + around)
    data = masking.masked(await _bytes(storage, source, start, end), hidden)
    data = whole_characters(data[wanted.start - start : wanted.end - start])
    ends = wanted.start + len(data)
    if offset is None and wanted.start:
        data = from_next_line(data)
    return LogPart(data, ends - len(data), ends, source.size, live=source.path is not None)


async def _find(session: AsyncSession, row: TrainingSession, workdir: Workdir, stream: LogStream) -> _Source:
    """The newest run's, which may not be the one that was here."""
    kept = await session.get(TrainingLog, (row.id, stream.value))
    owner = (await jobs.get(session, trainings.task_of(row))).lease_owner
    elsewhere = owner is not None and not is_here(owner)
    handle, path = process.recall(workdir), log_path(workdir, stream)
    old = (elsewhere and workdir.exit.exists()) or (kept and handle and kept.run > handle.started_at)
    if handle is not None and path.exists() and not old:
        return _Source((await asyncio.to_thread(path.stat)).st_size, path=path)
    if owner is not None and elsewhere:
        host = owner.partition("@")[0]
        raise ConflictError(
            f"The trainer runs on another machine, {host}, and so its log is there until it has ended.",
            code="log_elsewhere",
            value=host,
            hint="Its course is in /metrics; the log comes to the storage when the trainer ends.",
        )
    if kept is not None:
        return _Source(kept.size_bytes, key=kept.storage_path)
    if row.status in ("pending", "training"):
        raise ConflictError("The trainer has not been started yet.", code="log_not_yet", value=row.status)
    raise NotFoundError(
        "This session has no log here or in the storage: no trainer was started, or the machine it ran on is gone.",
        code="log_gone",
        value=str(row.id),
    )


async def _bytes(storage: Storage, source: _Source, start: int, end: int) -> bytes:
    """Raises NotFoundError `log_gone` when the storage has lost it."""
    try:
        if source.path is not None:
            return await read_range(source.path, start, end)
        if start == end:
            return b""
        async with aclosing(storage.open(source.key, start, end)) as chunks:
            return b"".join([chunk async for chunk in chunks])
    except FileNotFoundError as exc:
        raise NotFoundError("The log is gone.", code="log_gone", value=source.key) from exc


# ---- what nobody is shown ----------------------------------------------------------------------------------------


def secrets(settings: Settings, workdir: Workdir) -> list[str]:
    """A trainer is given none of ours; should one stand in its log all the same, nobody is shown it."""
    values = [getattr(settings, name) for name in Settings.model_fields]
    ours = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
    passwords = [urlsplit(url).password or "" for url in (settings.database_url, settings.redis_url) if url]
    return [secret for secret in (*ours, *passwords, _door(workdir)) if secret]


def _door(workdir: Workdir) -> str:
    """Where the runner takes messages: whoever knows it could speak for the trainer."""
    try:
        url: str = json.loads(workdir.webhook.read_text()).get("callback_url", "")
    except FileNotFoundError:
        return ""
    return url


# ---- into the storage --------------------------------------------------------------------------------------------


def log_path(workdir: Workdir, stream: LogStream) -> Path:
    return workdir.stdout if stream is LogStream.STDOUT else workdir.stderr


def new_key(session_id: UUID, stream: LogStream) -> str:
    """Of one try to store it."""
    return f"training-logs/{session_id}/{stream}-{uuid4().hex}.log"


async def run_of_stored(session: AsyncSession, session_id: UUID, stream: LogStream) -> float | None:
    """Which run's log the storage has, by its beginning."""
    kept = await session.get(TrainingLog, (session_id, stream.value))
    return None if kept is None else kept.run


async def record(
    session: AsyncSession, lease: Lease, session_id: UUID, stream: LogStream, run: float, stored: StoredFile
) -> None:
    """In place of an earlier run's. Raises LeaseLostError."""
    await jobs.require_held(session, lease)
    its: Sequence[sa.ColumnElement[bool]] = (
        col(TrainingLog.session_id) == session_id,
        col(TrainingLog.stream) == stream.value,
    )
    old = await session.scalar(sa.delete(TrainingLog).where(*its).returning(col(TrainingLog.storage_path)))
    if old is not None:
        dismiss(session, old)
    row = TrainingLog(
        session_id=session_id, stream=stream.value, run=run, storage_path=stored.key, size_bytes=stored.size
    )
    session.add(row)
    await session.flush()
    await recorded(session, stored.key)
