"""LoRA files where ComfyUI looks for them: fetched once, hashed, renamed into place, and never changed."""

import asyncio
from pathlib import Path

from api.errors import EngineError
from api.storage import Storage


class LoraCache:
    """Names are made from the content, so a file that is there is the right one. One per folder: fetches take turns."""

    def __init__(self, storage: Storage, folder: Path) -> None:
        self._storage = storage
        self._folder = folder
        self._fetching = asyncio.Lock()

    async def provide(self, storage_path: str, sha256: str) -> str:
        """Have the file in the folder; its name there.

        Raises EngineError `model_file_missing` or `model_file_damaged`, and StorageError.
        """
        name = storage_path.rpartition("/")[2]
        target = self._folder / name
        async with self._fetching:
            if not target.exists():
                await self._fetch(storage_path, sha256, target)
        return name

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
