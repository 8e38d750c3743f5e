"""Pictures in ComfyUI's input folder: there while a prompt uses them, under names made from their content."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from api.domain.canvas import JOBS_INPUTS, input_name
from api.errors import EngineError
from api.storage import Storage


class InputFolder:
    """One per worker: two prompts may use one picture, and the last removes it."""

    def __init__(self, storage: Storage, folder: Path) -> None:
        self._storage = storage
        self._folder = folder
        self._users: Counter[str] = Counter()
        self._fetching = asyncio.Lock()
        for left in folder.glob(f"{JOBS_INPUTS}*"):  # by a worker that died
            left.unlink(missing_ok=True)

    @asynccontextmanager
    async def holding(self, storage_path: str, sha256: str) -> AsyncIterator[str]:
        """The picture's name in the folder, as long as it is needed.

        Raises EngineError `input_missing` or `input_damaged`, and StorageError.
        """
        name = input_name(sha256)
        self._users[name] += 1
        try:
            async with self._fetching:
                if not (self._folder / name).exists():
                    await self._fetch(storage_path, sha256, name)
            yield name
        finally:
            self._users[name] -= 1
            if not self._users[name]:
                del self._users[name]
                (self._folder / name).unlink(missing_ok=True)

    async def _fetch(self, storage_path: str, sha256: str, name: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        arriving = self._folder / f"{name}.part"
        try:
            stored = await self._storage.get_file(storage_path, arriving)
            if stored.sha256 != sha256:
                raise EngineError(
                    "A picture that this one starts from has changed in the storage.",
                    code="input_damaged",
                    value=storage_path,
                    hint="Upload it again with POST /api/inputs/.",
                )
            arriving.rename(self._folder / name)
        except FileNotFoundError as exc:
            raise EngineError(
                "A picture that this one starts from is gone from the storage.",
                code="input_missing",
                value=storage_path,
                hint="Upload it again with POST /api/inputs/, and ask again.",
            ) from exc
        finally:
            arriving.unlink(missing_ok=True)
