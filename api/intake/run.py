"""From uploaded files to training pictures: zip, names, captions, pictures, duplicates, report."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from api.domain.caption import decode_caption
from api.domain.intake import (
    Candidate,
    Caption,
    Intake,
    NoUsableImagesError,
    ReportEntry,
    TakenImage,
    caption_verdict,
    plan,
    refuse_duplicates,
)
from api.domain.manifest import Manifest, read_manifest
from api.domain.upload import MANIFEST_NAME, FileKind, IncomingFile, Refusal, UploadLimits, file_kind, pair_key
from api.errors import InputError
from api.few_at_once import few_at_once
from api.intake.archive import Unpacked, unpack
from api.intake.images import take_image

PARALLEL_IMAGES = 2
"""A picture of the largest size taken by default needs up to 1 GB while it is turned upright."""
CAPTION_BYTES = 64 * 1024

Progress = Callable[[int, int], None]
"""Called on the event loop with the number of pictures done and of all."""

Outcome = TakenImage | InputError


@dataclass(frozen=True, slots=True)
class _Batch:
    """An upload after the look at everything but the pictures."""

    candidates: list[Candidate]
    captions: dict[str, Caption]
    refused: list[ReportEntry]
    manifest: Manifest | None


async def run_intake(
    files: Sequence[IncomingFile], limits: UploadLimits, workdir: Path, progress: Progress | None = None
) -> Intake:
    """Take in all files of one upload; afterwards `workdir/images/` holds the pictures taken.

    The files are consumed: each is removed once it has been looked at, so that the disk never holds everything twice.
    All blocking work is done in two threads, and none of them still works when this returns, raises or is cancelled;
    what then remains in `workdir` is the caller's to remove.

    Raises NoUsableImagesError, InputError `zip_not_alone`, and what `archive.unpack` raises.
    """
    loop = asyncio.get_running_loop()
    pool = ThreadPoolExecutor(PARALLEL_IMAGES, thread_name_prefix="intake")
    done = 0

    async def look_at(candidate: Candidate) -> Outcome:
        nonlocal done
        outcome = await loop.run_in_executor(pool, _take, candidate, workdir / "images", limits)
        done += 1
        if progress:
            progress(done, len(batch.candidates))
        return outcome

    try:
        batch = await loop.run_in_executor(pool, _prepare, files, limits, workdir)
        outcomes = await few_at_once(PARALLEL_IMAGES, look_at, batch.candidates)
        return await loop.run_in_executor(pool, _settle, batch, outcomes)
    finally:
        await asyncio.shield(asyncio.to_thread(pool.shutdown, cancel_futures=True))


def _prepare(files: Sequence[IncomingFile], limits: UploadLimits, workdir: Path) -> _Batch:
    (workdir / "images").mkdir(parents=True)
    unpacked = _unpack_if_zip(files, limits, workdir / "unpacked")
    refused = list(unpacked.refused)
    images: list[IncomingFile] = []
    captions: dict[str, Caption] = {}
    manifest: Manifest | None = None
    for file in unpacked.files:
        try:
            kind = file_kind(file.filename)
            if kind is FileKind.IMAGE:
                images.append(file)
                continue
            if kind is FileKind.CAPTION:
                _add_caption(file, captions)
            if kind is FileKind.MANIFEST:
                manifest = read_manifest(file.path)
        except InputError as exc:
            refused.append(ReportEntry.refused(file.filename, exc))
        file.path.unlink()
    return _Batch(plan(images, captions), captions, refused, manifest)


def _unpack_if_zip(files: Sequence[IncomingFile], limits: UploadLimits, folder: Path) -> Unpacked:
    """The files of the one zip, which is then removed; without a zip, the files as they are."""
    zips = [file for file in files if file.filename.lower().endswith(".zip")]
    if not zips:
        return Unpacked(list(files), [])
    if len(files) > 1:
        raise InputError(
            "A zip must be the only file of an upload.",
            code="zip_not_alone",
            value=zips[0].filename,
            hint="Send one zip, or the pictures and captions themselves.",
        )
    folder.mkdir()
    unpacked = unpack(zips[0].path, limits, folder)
    zips[0].path.unlink()
    return unpacked


def _add_caption(file: IncomingFile, captions: dict[str, Caption]) -> None:
    """Raises InputError if another file already captions the same pictures."""
    key = pair_key(file.filename)
    if key in captions:
        raise InputError(f"{captions[key].filename} has the same name.", code=Refusal.DUPLICATE_CAPTION)
    captions[key] = Caption(file.filename, _read_caption(file))


def _read_caption(file: IncomingFile) -> str | InputError:
    if file.size > CAPTION_BYTES:
        return InputError(
            f"A caption has at most {CAPTION_BYTES:,} bytes; this file has {file.size:,}.", code=Refusal.FILE_TOO_LARGE
        )
    text = decode_caption(file.path.read_bytes())
    return text or InputError("The caption is empty.", code=Refusal.EMPTY_CAPTION)


def _take(candidate: Candidate, folder: Path, limits: UploadLimits) -> Outcome:
    try:
        return take_image(candidate, folder, limits)
    except InputError as exc:
        return exc
    finally:
        candidate.file.path.unlink()


def _settle(batch: _Batch, outcomes: Sequence[Outcome]) -> Intake:
    """Remove duplicates, and say what became of every file."""
    filenames = [candidate.file.filename for candidate in batch.candidates]
    report = list(batch.refused)
    images: list[TakenImage] = []
    for filename, outcome in refuse_duplicates(zip(filenames, outcomes, strict=True)):
        if isinstance(outcome, TakenImage):
            images.append(outcome)
            report.append(ReportEntry.taken(filename))
        else:
            report.append(ReportEntry.refused(filename, outcome))
    _remove_all_but(images, outcomes)
    candidate_keys = {pair_key(filename) for filename in filenames}
    taken_keys = {pair_key(image.original_name) for image in images}
    report += [caption_verdict(caption, key, candidate_keys, taken_keys) for key, caption in batch.captions.items()]
    if not images:
        raise NoUsableImagesError(tuple(report))
    if batch.manifest is not None:
        report.append(ReportEntry.taken(MANIFEST_NAME))
    return Intake(tuple(images), tuple(report), batch.manifest)


def _remove_all_but(images: Sequence[TakenImage], outcomes: Sequence[Outcome]) -> None:
    kept = {image.path for image in images}
    for outcome in outcomes:
        if isinstance(outcome, TakenImage) and outcome.path not in kept:
            outcome.path.unlink()
