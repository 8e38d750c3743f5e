"""The notebook as a user runs it: in a kernel of its own, cell by cell, with what the form's fields hold."""

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from jupyter_core.utils import ensure_async
from nbclient import NotebookClient

from api.settings import PROJECT_ROOT, Settings
from tests.waiting import until

NOTEBOOK = PROJECT_ROOT / "scripts" / "colab" / "MASUKA.ipynb"
STAND_IN = PROJECT_ROOT / "tests" / "colab" / "stand_in"
CELLS = ("set-up", "train", "generate", "debug")
CELL_SECONDS = 500
START_SECONDS = 120


@dataclass
class Kernel:
    """One run of the notebook."""

    client: NotebookClient

    async def run(self, name: str, **fields: object) -> str:
        """A cell, with these values in its form; what it shows. Raises CellExecutionError when it fails."""
        self._fill(name, fields)
        await self.client.async_execute_cell(self._cell(name), self._index(name))
        return self.shown(name)

    async def run_until(self, name: str, true: Callable[[str], bool], **fields: object) -> str:
        """The same, but interrupted as by the button when `true` of what it shows."""
        self._fill(name, fields)
        running = asyncio.create_task(self.client.async_execute_cell(self._cell(name), self._index(name)))
        await until(lambda: true(self.shown(name)) or running.done(), CELL_SECONDS, every=0.05)
        assert not running.done(), f"{running.exception()}\n{self.shown(name)}"
        assert self.client.km is not None
        await ensure_async(self.client.km.interrupt_kernel())
        await running
        return self.shown(name)

    def shown(self, name: str) -> str:
        """As text, as it is now."""
        return "\n".join(
            out.get("text") or "\n".join(out.get("traceback", ())) or out.get("data", {}).get("text/plain", "")
            for out in self._cell(name).outputs
        )

    def kinds(self, name: str) -> list[str]:
        """Media types of what it shows."""
        return [kind for out in self._cell(name).outputs for kind in out.get("data", {})]

    async def value(self, expression: str) -> Any:
        """Of an expression over what the cells have left, by JSON."""
        source = f"import json; print(json.dumps({expression}))"
        cell = nbformat.v4.new_code_cell(source)  # type: ignore[no-untyped-call]
        self.client.nb.cells.append(cell)
        await self.client.async_execute_cell(cell, len(self.client.nb.cells) - 1)
        return json.loads(next(out["text"] for out in cell.outputs if out.output_type == "stream"))

    def _cell(self, name: str) -> Any:
        return self.client.nb.cells[self._index(name)]

    def _index(self, name: str) -> int:
        return [cell.id for cell in self.client.nb.cells].index(name)

    def _fill(self, name: str, fields: Mapping[str, object]) -> None:
        cell = self._cell(name)
        for field, value in fields.items():
            line = f"{field} = {value!r}"
            cell.source, filled = re.subn(rf"(?m)^{field} = .*?(?=  # @param)", lambda _, line=line: line, cell.source)  # type: ignore[misc]
            assert filled == 1, field


@asynccontextmanager
async def kernel(cwd: Path, env: Mapping[str, str]) -> AsyncIterator[Kernel]:
    """A new one, with nothing of ours on its path but the stand-in for what Colab has."""
    clean = {key: value for key, value in os.environ.items() if key.lower() not in Settings.model_fields}
    whole = {**clean, "PYTHONPATH": str(STAND_IN), **env}
    client = NotebookClient(
        _read(), timeout=CELL_SECONDS, startup_timeout=START_SECONDS, resources={"metadata": {"path": str(cwd)}}
    )
    async with client.async_setup_kernel(env=whole, cwd=str(cwd)):
        yield Kernel(client)


def source_of(name: str) -> str:
    return str(next(cell.source for cell in _read().cells if cell.id == name))


def _read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
