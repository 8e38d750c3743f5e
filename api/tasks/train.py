"""Trains one LoRA: dataset in place, trainer followed wherever it is, its file checked, stored and registered."""

import asyncio
import re
import shutil
from functools import partial
from uuid import UUID

import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.domain.card import begun
from api.domain.engine import InstalledBase
from api.domain.job import StopReason
from api.engines import catalogue, gpu, locate
from api.engines.facts import facts
from api.errors import EngineError, JobError, RetryableError
from api.models import TrainingSession
from api.see_through import see_through
from api.services import candidates, dataset_versions, jobs, trainer_options, wishes
from api.services.training_folder import workdir_of
from api.services.trainings import config_of
from api.tasks.attempt import Attempt
from api.tasks.candidates import collect_at_end
from api.tasks.checkpoints import provide_checkpoint, provide_parents, store_last
from api.tasks.dataset_files import provide_dataset
from api.tasks.following import follow_trainer, percent
from api.tasks.gpu import GpuKit
from api.tasks.room import make_room, training_need
from api.tasks.trained_lora import keep, offer
from api.tasks.trainer_watch import watched
from api.tasks.training_course import keep_unfollowed
from api.tasks.training_records import keep_log
from api.trainer import process
from api.trainer.checkpoint_stop import stop_at_checkpoint
from api.trainer.outcome import OutcomeStatus, outcome
from api.trainer.process import RunnerHandle
from api.trainer.workdir import Workdir

log = structlog.get_logger(__name__)

LOG_LINES = 40
LOG_CHARACTERS = 6000
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
TRY_AGAIN = frozenset({"killed", "trainer_lost", "trainer_interrupted", "disk_full", "lora_not_written"})
"""Ends that say nothing against the training itself: the next attempt resumes from the newest training checkpoint."""


async def train(kit: GpuKit, attempt: Attempt) -> None:
    """One attempt at one training. A trainer that an earlier attempt left running is followed, not started again.

    Raises MasukaError; RetryableError when the trainer was lost.
    """
    async with attempt.resources.sessions() as session:
        row = await _session_of(session, attempt)
        images = await dataset_versions.trained_on(session, row)
    workdir = workdir_of(kit.settings, row.id)
    base = kit.base(row.config["base_model"])
    loras_kept = kit.settings.masuka_checkpoint_loras
    need = await training_need(attempt.resources.storage, row, base, images, workdir, loras_kept)
    try:
        await attempt.progress(
            urgent=True, stage="preparing", message="Freeing the GPU", total_steps=row.config["steps"]
        )
        if await _has_run(workdir, attempt):
            attempt.resources.disk.promise(attempt.lease.owner, need)
            await kit.yield_gpu(base.name)
        else:
            await make_room(attempt, need)
            await kit.yield_gpu(base.name)
            await attempt.progress(urgent=True, message="Fetching the dataset")
            await provide_dataset(attempt, images, workdir.dataset, row)
            await keep_unfollowed(attempt, workdir, row.id)
            resumed_at = await provide_checkpoint(attempt, workdir, row.id)
            resumed_at = resumed_at or await provide_parents(attempt, workdir, row)
            await _start(kit, attempt, workdir, row, base, resumed_at)
        async with watched(attempt, workdir):
            await follow_trainer(attempt, workdir, row, partial(kit.comeback.begin, base))
            await _require_success(workdir)
    except asyncio.CancelledError:
        await _stop_if_asked(attempt, workdir, row.id)
        raise
    except JobError:
        await keep_log(attempt, workdir, row.id)
        raise
    attempt.release_gpu()
    await store_last(attempt, workdir, row.id)
    collected = await collect_at_end(attempt.resources, row.id, workdir)
    await offer(kit, await keep(attempt, workdir, row, base))
    if collected:
        await asyncio.to_thread(_tidy, workdir)


async def _session_of(session: AsyncSession, attempt: Attempt) -> TrainingSession:
    row = await session.scalar(sa.select(TrainingSession).where(col(TrainingSession.task_id) == attempt.job_id))
    if row is None:
        raise EngineError("The session of this job is gone.", code="session_gone", value=str(attempt.job_id))
    return row


async def _has_run(workdir: Workdir, attempt: Attempt) -> bool:
    """Whether a trainer goes on here, or has ended in a way that counts; then it is not started (again).

    A success counts whichever job it was for: all jobs of a session train the same. A failure counts for its own job.
    """
    if process.find(workdir) is not None:
        return True
    ended = await outcome(workdir)
    if ended is None or ended.failure is None:
        return ended is not None and ended.status is OutcomeStatus.SUCCEEDED
    return process.job_of_run(workdir) == str(attempt.job_id) and ended.failure.code not in TRY_AGAIN


async def _start(
    kit: GpuKit, attempt: Attempt, workdir: Workdir, row: TrainingSession, base: InstalledBase, resumed_at: int
) -> None:
    install = locate.simpletuner(kit.settings)
    config = config_of(row)
    trainer_options.require(config.expert, install.version, base.name)  # another version may have come since
    precision = await asyncio.to_thread(_precision, base)
    process.prepare(workdir, config, base=base, install=install, auto_precision=precision)
    await _note_start(attempt, row, resumed_at)
    async with attempt.resources.sessions.begin() as session:
        await wishes.tell_version(session, attempt.lease, row.id, install.version)
    message = f"Resuming from step {resumed_at}" if resumed_at else "Starting the trainer"
    await attempt.progress(urgent=True, message=message, step=resumed_at, progress=percent(resumed_at, config.steps))
    # A trainer that is half started when the attempt is stopped would be one that nobody knows.
    await see_through(process.start(workdir, install, job_id=str(attempt.job_id), resumed_at=resumed_at))


async def _note_start(attempt: Attempt, row: TrainingSession, resumed_at: int) -> None:
    """Write down what is about to train, and that what it saves takes the place of what was saved there before."""
    engines = await asyncio.to_thread(facts, attempt.resources.settings)
    async with attempt.resources.sessions.begin() as session:
        await jobs.require_held(session, attempt.lease)
        row = await session.get_one(TrainingSession, row.id)
        row.made_with = begun(row.made_with, resumed_at, engines)
        await candidates.supersede(session, row.id, resumed_at)


def _precision(base: InstalledBase) -> str:
    """What the catalogue finds to fit this machine. Raises EngineError `gpu_too_small`."""
    known, cards = catalogue.get(base.name), gpu.detect()
    best = known.pick_training_precision(gpu.largest_vram_gb(cards), fp8=any(card.has_fp8 for card in cards))
    if best is None:
        least = min(row.at_least_gb for row in known.training)
        raise EngineError(
            f"{base.name} cannot be trained here: it needs a GPU with at least {least:g} GB.",
            code="gpu_too_small",
            hint="Train on a machine with a larger GPU.",
        )
    return best.value


async def _stop_if_asked(attempt: Attempt, workdir: Workdir, session_id: UUID) -> None:
    """The owner's wish ends the trainer; a shutdown, or the loss of the lease, leaves it to the next attempt.

    Where MASUKA_STOP_TRAINING is set, so does a shutdown, and the next attempt resumes.
    """
    handle = process.find(workdir)
    if handle is None:
        return
    if attempt.stop_reason is StopReason.USER:
        await see_through(handle.stop())
        await see_through(keep_log(attempt, workdir, session_id))
    elif attempt.stop_reason is StopReason.SHUTDOWN and attempt.resources.settings.masuka_stop_training:
        await see_through(_stop_to_resume(attempt, handle))


async def _stop_to_resume(attempt: Attempt, handle: RunnerHandle) -> None:
    stopped = await stop_at_checkpoint(handle)
    log.info("training_stopped", step=stopped.step, resumes_from=stopped.resumes_from, steps_lost=stopped.lost)
    message = f"Stopped at step {stopped.step}; it will go on from step {stopped.resumes_from}"
    await attempt.progress(urgent=True, message=message)


async def _require_success(workdir: Workdir) -> None:
    ended = await outcome(workdir)
    if ended is None:
        raise RetryableError("The trainer's files are gone.", code="trainer_lost")
    if ended.status is OutcomeStatus.CANCELLED:
        raise RetryableError("The trainer was stopped, and not for us.", code="trainer_interrupted")
    if ended.failure is not None:
        kind = RetryableError if ended.failure.code in TRY_AGAIN else EngineError
        raise kind(
            ended.failure.message, code=ended.failure.code, hint=ended.failure.hint, log_tail=last_lines(ended.log_tail)
        )


def last_lines(text: str) -> str:
    """The end of a log, without colours, short enough for a row."""
    clean = _COLOURS.sub("", text).replace("\x00", "")
    return "\n".join(clean.splitlines()[-LOG_LINES:])[-LOG_CHARACTERS:]


def _tidy(workdir: Workdir) -> None:
    """The LoRA is registered: keep the logs and the messages, drop what was only needed for it."""
    workdir.finished.unlink(missing_ok=True)
    for folder in workdir.working_state:
        shutil.rmtree(folder, ignore_errors=True)
