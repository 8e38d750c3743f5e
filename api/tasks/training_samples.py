"""Stores what a trainer draws, as it appears: cut out, read back, and a row for each."""

from pathlib import Path

import structlog
from sqlalchemy.exc import IntegrityError

from api.domain.samples import SampleName
from api.models import GeneratedAsset, TrainingSession
from api.scratch import scratch
from api.services import generation, samples
from api.services.unrecorded import unrecorded
from api.storage.files import in_thread
from api.tasks.attempt import Attempt
from api.trainer.sample_files import cut_out, found
from api.trainer.workdir import Workdir

log = structlog.get_logger(__name__)


async def store_samples(attempt: Attempt, workdir: Workdir, row: TrainingSession) -> None:
    """All that are whole and not stored yet. Raises StorageError, LeaseLostError and what a database raises.

    What a crash leaves out is found by whoever calls this next, for the trainer's files stay until all are stored.
    """
    prompts: list[str] = row.config.get("sample_prompts") or []
    drawn = await in_thread(found, workdir)
    async with attempt.resources.sessions() as session:
        stored = await samples.steps_of(session, row.id)
    for name, path in drawn.items():
        if (name.step, name.position) not in stored and name.position < len(prompts):
            asset = samples.new_asset(row, name, prompts)
            async with scratch(attempt.resources.settings) as folder:
                picture = folder / "sample.png"
                if await in_thread(cut_out, path, name, picture):
                    await _store(attempt, row, name, asset, picture)


async def _store(
    attempt: Attempt, row: TrainingSession, name: SampleName, asset: GeneratedAsset, picture: Path
) -> None:
    resources, key = attempt.resources, generation.file_key(asset.id, attempt.tag)
    try:
        async with unrecorded(resources.sessions, resources.storage, key, attempt.lease.owner):
            put = await resources.storage.put_file(key, picture, "image/png")
            async with resources.sessions.begin() as session:
                await samples.record(session, attempt.lease, row.id, name, asset, put)
    except IntegrityError:
        log.warning("sample_stored_twice", step=name.step, position=name.position)  # by an attempt that lost its lease
    else:
        log.info("sample_stored", step=name.step, position=name.position)
