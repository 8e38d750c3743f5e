"""Captions the images of a dataset: ComfyUI's memory given back, a captioner started, every answer kept at once."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path

from api.captioner.process import CaptionerProcess, CaptionerSpec, PictureError, running
from api.domain.captioning import CaptionerName
from api.domain.engine import InstalledCaptioner
from api.domain.job import Kind
from api.engines import gpu, locate
from api.engines.captioners import CAPTIONERS, Captioner
from api.errors import EngineError, RetryableError
from api.memory import available_bytes
from api.models import Captioning, CaptioningImage, DatasetImage
from api.scratch import scratch
from api.services import captioned, datasets
from api.tasks.attempt import Attempt
from api.tasks.dataset_files import fetch_image
from api.tasks.gpu import GpuKit
from api.tasks.patience import patiently

GIB = 1024**3
SEED = 0
SYSTEM = "You are a helpful image captioner."
"""As the authors of JoyCaption begin a chat with it."""

Item = tuple[CaptioningImage, DatasetImage | None]
"""An image to caption; None when it has been removed."""


async def caption(kit: GpuKit, attempt: Attempt) -> None:
    """One attempt at one captioning; images that an earlier one has done are left as they are.

    Raises MasukaError; RetryableError when the captioner died.
    """
    async with attempt.resources.sessions() as session:
        row = await captioned.of_job(session, attempt.job_id)
        waiting = await captioned.to_do(session, row)
        images = {each.id: each for each in await datasets.images(session, row.dataset_id)}
    items = [(item, images.get(item.image_id)) for item in waiting]
    await _tell(attempt, row, row.total - len(items), urgent=True, stage="preparing", message="Freeing the GPU")
    if items:
        await _caption_all(kit, attempt, row, items)
    attempt.release_gpu()
    async with attempt.resources.sessions() as session:
        found = await captioned.judge(session, row)
    await attempt.progress(message=_summary(found))
    await attempt.complete(lambda session: captioned.finish(session, row, found))


async def _caption_all(kit: GpuKit, attempt: Attempt, row: Captioning, items: Sequence[Item]) -> None:
    known = CAPTIONERS[CaptionerName(row.captioner)]
    captioner, install = locate.captioner(kit.settings, known.name), locate.simpletuner(kit.settings)
    await kit.yield_gpu(row.captioner, Kind.CAPTION)
    await asyncio.to_thread(_require_memory, known)
    async with attempt.resources.sessions.begin() as session:
        await captioned.begin(session, attempt.lease, row, captioner.revision)
    log_path = kit.settings.masuka_data_dir / "logs" / "captioner.log"
    spec = _spec(known, captioner, row)
    async with scratch(kit.settings) as folder, running(install, spec, log_path) as process:
        await attempt.progress(urgent=True, stage="loading", message=f"Loading {row.captioner}")
        await process.load()
        began, before = time.monotonic(), row.total - len(items)
        async with aclosing(_brought(attempt, items, folder)) as pictures:
            async for item, image, picture in pictures:
                await _caption_one(attempt, row, item, image, picture, process, captioner)
                before += 1
                pace = (time.monotonic() - began) / (before - (row.total - len(items)))
                eta = round(pace * (row.total - before), 1)
                await _tell(
                    attempt, row, before, stage="captioning", eta_seconds=eta, message=f"{before} of {row.total} images"
                )


def _spec(known: Captioner, captioner: InstalledCaptioner, row: Captioning) -> CaptionerSpec:
    folder, tokens = str(captioner.folder), known.max_tokens
    return CaptionerSpec(folder, known.family, row.prompt, SYSTEM, tokens, known.cpu_dtype, SEED)


def _require_memory(captioner: Captioner) -> None:
    """Raises EngineError `memory_too_small`: a captioner that does not fit would be killed, or bring others down."""
    free_gb = gpu.free_vram_gb()
    where, has_gb = ("GPU", free_gb) if free_gb is not None else ("machine", available_bytes() / GIB)
    need_gb = captioner.need_gb(gpu=free_gb is not None)
    if has_gb < need_gb:
        raise EngineError(
            f"{captioner.name} needs {need_gb:g} GB of the {where}'s memory, and {has_gb:.1f} GB are free.",
            code="memory_too_small",
            value=round(has_gb, 1),
            hint="Close what else uses it, or take florence-2, which needs least.",
        )


# ---- one image ---------------------------------------------------------------------------------------------------


async def _brought(
    attempt: Attempt, items: Sequence[Item], folder: Path
) -> AsyncGenerator[tuple[CaptioningImage, DatasetImage | None, Path | EngineError | None], None]:
    """Every image with its file, which is fetched while the one before is captioned; or why there is none."""
    coming = [asyncio.create_task(_bring(attempt, image, folder)) for _, image in items[:1]]
    try:
        for number, (item, image) in enumerate(items, start=1):
            brought = await coming.pop()
            coming = [asyncio.create_task(_bring(attempt, later, folder)) for _, later in items[number : number + 1]]
            yield item, image, brought
            if isinstance(brought, Path):
                await asyncio.to_thread(brought.unlink, missing_ok=True)
    finally:
        for task in coming:
            task.cancel()
        await asyncio.gather(*coming, return_exceptions=True)


async def _bring(attempt: Attempt, image: DatasetImage | None, folder: Path) -> Path | EngineError | None:
    if image is None:
        return None
    path = folder / image.key.rpartition("/")[2]
    try:
        await patiently(attempt, partial(fetch_image, attempt.resources.storage, image, path))
    except EngineError as exc:
        return exc
    return path


async def _caption_one(
    attempt: Attempt,
    row: Captioning,
    item: CaptioningImage,
    image: DatasetImage | None,
    picture: Path | EngineError | None,
    process: CaptionerProcess,
    captioner: InstalledCaptioner,
) -> None:
    """Raises RetryableError when the captioner has died or hung, LeaseLostError."""
    lease, sessions = attempt.lease, attempt.resources.sessions
    if image is None or picture is None:
        record = partial(captioned.keep, lease=lease, item=item)
    elif isinstance(picture, EngineError):
        record = partial(captioned.fail, lease=lease, item=item, code=picture.code, detail=picture.detail)
    else:
        try:
            said = await process.describe(picture)
        except PictureError as exc:
            record = partial(captioned.fail, lease=lease, item=item, code=exc.code, detail=exc.detail)
        except RetryableError as exc:
            async with sessions.begin() as session:
                await captioned.blame(session, lease, item, exc)
            raise
        else:
            model = {"model": CAPTIONERS[CaptionerName(row.captioner)].repo, "revision": captioner.revision}
            its = partial(captioned.record, lease=lease, row=row, item=item, picture=image.sha256)
            record = partial(its, said=said, model=model)
    async with sessions.begin() as session:
        await record(session)


async def _tell(attempt: Attempt, row: Captioning, done: int, *, urgent: bool = False, **changes: object) -> None:
    percent = 100.0 * done / row.total if row.total else 0.0
    await attempt.progress(urgent=urgent, step=done, total_steps=row.total, progress=percent, **changes)


def _summary(found: dict[str, int]) -> str:
    return ", ".join(f"{count} {status}" for status, count in found.items() if count)
