"""Room on the disk: a job takes what it will need before it begins, and waits, visibly, while there is too little."""

import asyncio
from collections.abc import Sequence

import structlog

from api.disk import DiskSpace, Need
from api.domain.disk import CHECKPOINT_LORAS, picture_bytes, shown_bytes, training_bytes
from api.domain.engine import InstalledBase
from api.engines import locate
from api.errors import JobError
from api.models import DatasetPicture, GeneratedAsset, TrainingSession
from api.services.checkpoints import folder_key
from api.services.trainings import config_of
from api.storage import Storage
from api.tasks.attempt import Attempt
from api.trainer.workdir import Workdir

log = structlog.get_logger(__name__)

WAITING_FOR_DISK = "waiting_for_disk"
LOOK_SECONDS = 2.0
DEFAULT_SIDE = 1024
"""Pixels, of a picture whose workflow does not say."""


async def make_room(attempt: Attempt, need: Need) -> None:
    """Return when the disk has what the job needs, promised to it until its attempt has ended.

    A job that has the whole GPU leaves it to pictures while it waits. Raises JobError `disk_too_small` when no waiting
    would help.
    """
    disk, owner = attempt.resources.disk, attempt.lease.owner
    _require_size(disk, need, (await disk.usage()).total)
    while missing := await disk.ask(owner, need):
        if not attempt.kind.exclusive:
            await _wait_for_room(attempt, need, missing)
            continue
        # Promised only once the job is back: the pictures that it waits for then may need this space to end.
        async with attempt.outside_gpu():
            await _wait_for_room(attempt, need, missing)
            message = "There is disk space now: waiting for the GPU"
            await attempt.notice(stage=WAITING_FOR_DISK, message=message, eta_seconds=None)
    await attempt.notice()


async def _wait_for_room(attempt: Attempt, need: Need, missing: int) -> None:
    disk = attempt.resources.disk
    while missing:
        log.info("disk_waited_for", missing_bytes=missing)
        await attempt.notice(stage=WAITING_FOR_DISK, message=_shortage(disk, missing), eta_seconds=None)
        await asyncio.sleep(LOOK_SECONDS)
        missing = await disk.missing(attempt.lease.owner, need)


async def wait_for_floor(attempt: Attempt, reason: str) -> None:
    """After a write that found the disk full: return a little later, when the disk has its usual reserve again."""
    disk = attempt.resources.disk
    log.warning("disk_waited_for", error=reason)
    await attempt.notice(stage=WAITING_FOR_DISK, message=f"{reason} Waiting for space", eta_seconds=None)
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        if (await disk.usage()).free >= disk.floor:
            break
    await attempt.notice()


async def training_need(
    storage: Storage,
    row: TrainingSession,
    base: InstalledBase,
    images: Sequence[DatasetPicture],
    workdir: Workdir,
    loras_kept: int = CHECKPOINT_LORAS,
) -> Need:
    """In its work folder, and for the stored training checkpoints where the storage is on this disk, too.

    Raises UnavailableError `base_model_not_installed`, EngineError `weights_unreadable`."""
    config = config_of(row)
    layers = await asyncio.to_thread(locate.base_lora_targets, base)
    sizes = [image.size_bytes for image in images]
    stored = storage.local_path(folder_key(row.id))
    total = training_bytes(config, layers, sizes, stored_here=stored is not None, loras_kept=loras_kept)
    return Need(total, (workdir.root,) if stored is None else (workdir.root, stored))


def picture_need(asset: GeneratedAsset) -> Need:
    config = asset.generation_config
    factor = float(config.get("parameters", {}).get("upscale_by", 1))
    width, height = (int(config.get(side, DEFAULT_SIDE) * factor) for side in ("width", "height"))
    return Need(picture_bytes(width, height))


def _require_size(disk: DiskSpace, need: Need, total: int) -> None:
    if need.total + disk.floor > total:
        raise JobError(
            f"This needs {shown_bytes(need.total)} in {disk.folder}, whose whole disk has {shown_bytes(total)}, "
            f"of which {shown_bytes(disk.floor)} stay free.",
            code="disk_too_small",
            value=need.total,
            hint="Set MASUKA_DATA_DIR to a folder on a larger disk, or keep fewer training checkpoints.",
        )


def _shortage(disk: DiskSpace, missing: int) -> str:
    return (
        f"Waiting for disk space: {shown_bytes(missing)} more must be free in {disk.folder} "
        f"({shown_bytes(disk.floor)} always stay free)"
    )
