"""What a training has made: checked, stored and recorded; then offered to ComfyUI."""

from functools import partial

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from api.domain.engine import InstalledBase
from api.errors import JobError
from api.models import TrainingSession
from api.services import cards, checkpoints, lora_intake
from api.services.lora_intake import KeptLora
from api.services.unrecorded import unrecorded
from api.storage.files import in_thread
from api.tasks.attempt import Attempt
from api.tasks.following import TRAINED_PERCENT
from api.tasks.gpu import GpuKit
from api.tasks.patience import patiently
from api.tasks.training_records import keep_all
from api.trainer.lora import write_with_alpha
from api.trainer.workdir import Workdir

log = structlog.get_logger(__name__)


async def keep(attempt: Attempt, workdir: Workdir, row: TrainingSession, base: InstalledBase) -> KeptLora:
    """Check the final LoRA, write its alpha, store it and what shows its making: the training is complete."""
    await attempt.progress(
        urgent=True, stage="storing", progress=TRAINED_PERCENT, message="Checking and storing the LoRA"
    )
    metadata = {"masuka_session": str(row.id), "masuka_base_model": base.name}
    await in_thread(write_with_alpha, workdir.final_lora, workdir.finished, row.config["alpha"], metadata)
    checked, sha256 = await lora_intake.check(workdir.finished, base)
    key, storage = lora_intake.file_key(row.name, sha256, attempt.tag), attempt.resources.storage
    async with unrecorded(attempt.resources.sessions, storage, key, attempt.lease.owner):
        # It waits without the GPU, and what it has cost hours to make is stored whenever the storage is back.
        put = partial(lora_intake.put, storage, key, workdir.finished, checked)
        kept = await patiently(attempt, put, for_ever=True)
        await keep_all(attempt, workdir, row)
        await attempt.complete(lambda session: _record(session, row, base, kept))
    return kept


async def offer(kit: GpuKit, kept: KeptLora) -> None:
    """Have the LoRA where ComfyUI sees it; if that fails now, the first picture with it tries again."""
    try:
        await kit.loras.provide(kept.stored.key, kept.stored.sha256)
    except JobError as exc:
        log.warning("lora_not_offered", error=exc.detail)


async def _record(session: AsyncSession, row: TrainingSession, base: InstalledBase, kept: KeptLora) -> None:
    row = await session.get_one(TrainingSession, row.id)
    await lora_intake.add_model(
        session,
        kept,
        name=row.name,
        base=base,
        metadata={"alpha": row.config["alpha"], "steps": row.config["steps"]},
        training_session_id=row.id,
        model_type=row.model_type,
        trigger_word=row.config["trigger_word"],
        card=await cards.of_training(session, row, row.config["steps"]),
    )
    await checkpoints.unmark(session, row.id, keep_newest=True)
