"""The LoRA of each training checkpoint, made ready to be drawn with: alpha written, keys checked, stored by content."""

from contextlib import suppress
from pathlib import Path
from uuid import UUID, uuid4

import structlog

from api.db import DATABASE_ERRORS
from api.domain.candidate import loss_at, shown_name
from api.domain.engine import InstalledBase
from api.engines import locate
from api.errors import InputError, MasukaError, StorageError
from api.lease import new_owner
from api.models import TrainingCandidate, TrainingCheckpoint, TrainingSession
from api.resources import Resources
from api.scratch import scratch
from api.services import candidates, cards, checkpoints, lora_intake
from api.services.candidates import TakenError
from api.services.trainings import config_of
from api.services.unrecorded import unrecorded
from api.storage.files import in_thread
from api.trainer.checkpoint import step_of
from api.trainer.events import read_events
from api.trainer.lora import LoraFile, write_with_alpha
from api.trainer.messages import Step
from api.trainer.workdir import FINAL_LORA, Workdir

log = structlog.get_logger(__name__)

LORA = "lora.safetensors"


async def collect(resources: Resources, session_id: UUID, workdir: Workdir | None, newest: int | None = None) -> None:
    """Have a candidate of every training checkpoint, on this disk or in storage, whose step has had no turn yet.

    `newest`: what the trainer saves behind it may not be whole yet. One without a sound LoRA is noted, and left out.
    Raises StorageError.
    """
    async with resources.sessions() as session:
        row = await session.get_one(TrainingSession, session_id)
        done = await candidates.done_steps(session, session_id)
        stored = {row.step: row for row in await checkpoints.stored(session, session_id)}
    here = set() if workdir is None else await in_thread(_steps, workdir)
    own = (step for step in (here | stored.keys()) - done if step > row.start_step)  # before that its parent's
    missing = sorted(step for step in own if newest is None or step <= newest)
    if not missing:
        return
    losses = {} if workdir is None else await in_thread(_losses, workdir)
    try:
        base = locate.base_model(resources.settings, row.config["base_model"])
        for step in missing:
            local = workdir.checkpoint(step) / FINAL_LORA if workdir is not None and step in here else None
            loss = loss_at(losses, step)
            if loss is None and step in stored:
                loss = stored[step].loss  # as told to the machine that trained then
            await _make(resources, row, base, step, loss, local or stored[step])
    except StorageError:
        raise
    except MasukaError as exc:  # without the base model nobody can tell whether a LoRA fits it
        log.warning("candidates_not_made", session_id=str(session_id), reason=exc.detail)


async def collect_at_end(resources: Resources, session_id: UUID, workdir: Workdir) -> bool:
    """The same for a trainer that has ended well; False: not now, so its files must stay for `forget` to do it."""
    try:
        await collect(resources, session_id, workdir)
    except (StorageError, *DATABASE_ERRORS) as exc:
        log.warning("candidates_wait", session_id=str(session_id), error=str(exc))
        return False
    return True


def _steps(workdir: Workdir) -> set[int]:
    return {step for path in workdir.output.glob("checkpoint-*") if (step := step_of(path.name)) is not None}


def _losses(workdir: Workdir) -> dict[int, float]:
    """What the newest run has told, by step."""
    found: dict[int, float] = {}
    offset = 0
    while events := read_events(workdir, offset):
        steps = (event.message for event in events if isinstance(event.message, Step))
        found |= {step.step: step.loss for step in steps if step.loss is not None}
        offset = events[-1].offset
    return found


async def _make(
    resources: Resources,
    row: TrainingSession,
    base: InstalledBase,
    step: int,
    loss: float | None,
    source: Path | TrainingCheckpoint,
) -> None:
    name, word = shown_name(row.name, step), row.config["trigger_word"]
    about = {"name": name, "base_model": base.name, "trigger_word": word, "loss": loss}
    candidate = TrainingCandidate(session_id=row.id, step=step, **about)
    with suppress(TakenError):
        async with scratch(resources.settings) as folder:
            try:
                path = source if isinstance(source, Path) else await _fetched(resources, source, folder / "stored")
                metadata = {"masuka_session": str(row.id), "masuka_base_model": base.name}
                await in_thread(write_with_alpha, path, folder / LORA, row.config["alpha"], metadata)
                checked, candidate.sha256 = await lora_intake.check(folder / LORA, base)
            except FileNotFoundError:
                return  # the trainer has pruned it, or it was given up
            except InputError as exc:
                log.warning("candidate_refused", session_id=str(row.id), step=step, reason=exc.detail)
                await _record(resources, row, candidate)
            else:
                await _store(resources, row, candidate, checked)


async def _store(resources: Resources, row: TrainingSession, candidate: TrainingCandidate, checked: LoraFile) -> None:
    """Raises StorageError, TakenError."""
    # Among the files of its training, whose room on the disk was promised.
    key = f"{checkpoints.folder_key(row.id)}/{lora_intake.file_key(candidate.name, candidate.sha256, uuid4().hex)}"
    storage = resources.storage
    candidate.rank, candidate.modules = checked.rank, len(checked.modules)
    async with unrecorded(resources.sessions, storage, key, new_owner()):
        kept = await lora_intake.put(storage, key, checked.path, checked)
        candidate.storage_path, candidate.size_bytes = kept.stored.key, kept.stored.size
        await _record(resources, row, candidate)
    log.info("candidate_stored", session_id=str(row.id), step=candidate.step, loss=candidate.loss)


async def _fetched(resources: Resources, stored: TrainingCheckpoint, path: Path) -> Path:
    """Its LoRA as it was stored.

    Raises StorageError, FileNotFoundError, InputError `lora_invalid` when it has changed since.
    """
    file = next((file for file in stored.files if file["name"] == FINAL_LORA), None)
    if file is None:
        raise FileNotFoundError(FINAL_LORA)
    got = await resources.storage.get_file(file["key"], path)
    if got.sha256 != file["sha256"]:
        raise InputError("The stored file has changed.", code="lora_invalid", value=file["key"])
    return path


async def _record(resources: Resources, row: TrainingSession, candidate: TrainingCandidate) -> None:
    """Raises TakenError."""
    async with resources.sessions.begin() as session:
        candidate.card = await cards.of_training(session, row, candidate.step, candidate.loss)
        most, rule = resources.settings.masuka_checkpoint_loras, config_of(row).checkpoint_rule
        await candidates.add(session, candidate, most, rule)
