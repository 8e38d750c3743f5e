"""Brings the log of a run that is over to the storage, without any secret."""

from pathlib import Path
from uuid import UUID

from api.domain.masking import masked
from api.scratch import scratch
from api.services import training_logs
from api.services.training_logs import LogStream
from api.services.unrecorded import unrecorded
from api.storage.files import in_thread
from api.tasks.attempt import Attempt
from api.trainer import process
from api.trainer.workdir import Workdir


async def store_log(attempt: Attempt, workdir: Workdir, session_id: UUID) -> None:
    """Once for each run. Raises StorageError, LeaseLostError and what a database raises."""
    handle = process.recall(workdir)
    if handle is None:
        return
    for stream in LogStream:
        path = training_logs.log_path(workdir, stream)
        async with attempt.resources.sessions() as session:
            kept = await training_logs.run_of_stored(session, session_id, stream)
        if kept != handle.started_at and path.exists():
            await _store(attempt, workdir, session_id, stream, handle.started_at)


async def _store(attempt: Attempt, workdir: Workdir, session_id: UUID, stream: LogStream, run: float) -> None:
    resources, key = attempt.resources, training_logs.new_key(session_id, stream)
    hidden = training_logs.secrets(resources.settings, workdir)
    async with (
        scratch(resources.settings) as folder,
        unrecorded(resources.sessions, resources.storage, key, attempt.lease.owner),
    ):
        await in_thread(_copy, training_logs.log_path(workdir, stream), folder / "log", hidden)
        put = await resources.storage.put_file(key, folder / "log", "text/plain")
        async with resources.sessions.begin() as session:
            await training_logs.record(session, attempt.lease, session_id, stream, run, put)


def _copy(source: Path, target: Path, hidden: list[str]) -> None:
    with source.open("rb") as log, target.open("wb") as copy:
        copy.writelines(masked(line, hidden) for line in log)
