"""Brings the files of base models and captioners from the hub, several at a time, with one progress for all."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from api.engines.catalogue import GB, BaseModel, ModelFile, Weights
from api.engines.hub import Hub, Told, part_file
from api.errors import InstallError

Report = Callable[[str, float | None], None]
PARALLEL_FILES = 4
REPORT_SECONDS = 0.1
SPARE_BYTES = GB  # left free for the rest of the machine


class Stopped(Exception):
    """Another file failed, or the user pressed Ctrl-C."""


@dataclass
class Total:
    """Counts what arrives in all threads, and tells them to stop."""

    size_bytes: int
    report: Report
    received_bytes: int = 0
    reported_at: float = 0.0
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def received(self, name: str, count: int) -> None:
        """Raises Stopped when the download is over."""
        if self.stop.is_set():
            raise Stopped
        with self.lock:
            self.received_bytes += count
            done, size, now = self.received_bytes, self.size_bytes, time.monotonic()
            if done < size and now - self.reported_at < REPORT_SECONDS:
                return  # every block of 60 GB would be a million reports
            self.reported_at = now
            self.report(f"{name} ({done / GB:.1f} of {size / GB:.1f} GB)", done / size if size else None)


def fetch_weights(base: BaseModel, weights: Weights, folder: Path, hub: Hub, report: Report) -> None:
    """Download all that is missing into `folder` and link what both engines read.

    Raises InstallError: `hf_token_missing`, `disk_full`, or what `Hub.download` raises.
    """
    if base.gated_repo and not hub.token:
        raise InstallError(
            f"{base.name} can be downloaded only with a Hugging Face token.",
            code="hf_token_missing",
            hint=f"Accept the licence at {base.licence_url}, then set HF_TOKEN to a token with read access.",
        )
    fetch_files(base.files(weights), folder, hub, report)
    for source, link in base.links:
        (folder / link).parent.mkdir(parents=True, exist_ok=True)
        (folder / link).unlink(missing_ok=True)
        os.link(folder / source, folder / link)


def fetch_files(files: Sequence[ModelFile], folder: Path, hub: Hub, report: Report) -> None:
    """Download all that is missing into `folder`. Raises InstallError: `disk_full`, or what `Hub.download` raises."""
    report("asking the hub for sizes", None)
    with ThreadPoolExecutor(PARALLEL_FILES) as pool:
        jobs = list(zip(files, pool.map(hub.ask, files), strict=True))
    require_disk(folder, sum(missing_bytes(folder / file.target, told) for file, told in jobs))
    _download_all(jobs, folder, hub, report)


def require_disk(folder: Path, needed_bytes: int) -> None:
    """Raises InstallError `disk_full` if `needed_bytes` and a little more do not fit beside `folder`."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed_bytes and free < needed_bytes + SPARE_BYTES:
        raise InstallError(
            f"{needed_bytes / GB:.1f} GB are needed in {folder}, {free / GB:.1f} GB are free.",
            code="disk_full",
            value=str(folder),
            hint="Make room, or set MASUKA_ENGINES_DIR to a folder on a larger disk.",
        )


def missing_bytes(target: Path, told: Told) -> int:
    """What is still to come, after the file itself or the part of it that is here."""
    have = next((path.stat().st_size for path in (target, part_file(target)) if path.is_file()), 0)
    return max(0, told.size_bytes - have)


def _download_all(jobs: Sequence[tuple[ModelFile, Told]], folder: Path, hub: Hub, report: Report) -> None:
    """All, or the first error; whatever ends it, no thread goes on."""
    total = Total(sum(told.size_bytes for file, told in jobs), report)

    def fetch(job: tuple[ModelFile, Told]) -> None:
        file, told = job
        hub.download(file, told, folder / file.target, lambda count: total.received(file.path, count))

    with ThreadPoolExecutor(PARALLEL_FILES) as pool:
        running = [pool.submit(fetch, job) for job in jobs]
        try:
            for future in running:
                future.result()
        finally:
            total.stop.set()
            pool.shutdown(cancel_futures=True)
