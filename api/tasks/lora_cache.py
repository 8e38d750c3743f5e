"""LoRA files where ComfyUI looks for them: fetched once, hashed, renamed into place, never changed."""

import asyncio
import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from api.errors import EngineError
from api.storage import Storage

log = structlog.get_logger(__name__)

_OURS = re.compile(r".+-[0-9a-f]{8}\.safetensors")
"""Named by content, as only we do: what the owner has put into the folder himself is his."""


class LoraCache:
    """Names are made from the content, so a file that is there is the right one. One per folder: fetches take turns.

    Above `limit_bytes` the files that were not needed for longest are removed, and never one that is in use.
    """

    def __init__(self, storage: Storage, folder: Path, limit_bytes: int) -> None:
        self._storage = storage
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._in_use: Counter[str] = Counter()
        self._fetching = asyncio.Lock()

    @contextmanager
    def in_use(self, storage_paths: Iterable[str]) -> Iterator[None]:
        """While inside, what `provide` has brought of these stays."""
        names = Counter(_name(path) for path in storage_paths)
        self._in_use.update(names)
        try:
            yield
        finally:
            self._in_use.subtract(names)

    async def provide(self, storage_path: str, sha256: str) -> str:
        """Have the file in the folder; its name there.

        Raises EngineError `model_file_missing` or `model_file_damaged`, and StorageError.
        """
        name = _name(storage_path)
        target = self._folder / name
        async with self._fetching:
            if new := not target.exists():
                await self._fetch(storage_path, sha256, target)
            used_at = time.time_ns()
            os.utime(target, ns=(used_at, used_at))  # what the system takes for now may be 10 ms old
            if new:
                await asyncio.to_thread(self._remove_idle, name)
        return name

    def sweep(self) -> None:
        """Remove what fetches that were killed have left; nobody may fetch meanwhile."""
        for part in self._folder.glob(".*.part"):
            part.unlink()

    async def _fetch(self, storage_path: str, sha256: str, target: Path) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        arriving = target.with_name(f".{target.name}.part")  # no `.safetensors` at the end: ComfyUI does not list it
        try:
            stored = await self._storage.get_file(storage_path, arriving)
        except FileNotFoundError as exc:
            raise EngineError(
                "The file of this LoRA is gone from the storage.",
                code="model_file_missing",
                value=storage_path,
                hint="Import the file again, or delete the model.",
            ) from exc
        if stored.sha256 != sha256:
            arriving.unlink()
            raise EngineError(
                "The file of this LoRA has changed in the storage.",
                code="model_file_damaged",
                value=storage_path,
                hint="Import the file again.",
            )
        arriving.rename(target)

    def _remove_idle(self, newest: str) -> None:
        files = [(path, path.stat()) for path in self._folder.iterdir() if _OURS.fullmatch(path.name)]
        excess = sum(stat.st_size for _, stat in files) - self._limit_bytes
        for path, stat in sorted(files, key=lambda file: file[1].st_mtime_ns):
            if excess <= 0:
                return
            if path.name != newest and not self._in_use[path.name]:
                log.info("lora_removed_from_cache", name=path.name)
                path.unlink()
                excess -= stat.st_size


def _name(storage_path: str) -> str:
    return storage_path.rpartition("/")[2]
