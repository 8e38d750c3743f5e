"""The stand-in for ngrok, where a test can tell it what to do."""

import shutil
import sys
from pathlib import Path

import pytest

from tests.tunnel import ngrok_stand_in


class StandIn:
    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.program = folder / "ngrok"
        script = Path(ngrok_stand_in.__file__).read_text().replace("/usr/bin/env python3", sys.executable, 1)
        self.program.write_text(script)
        self.program.chmod(0o755)
        self._behaviour, self._asked = folder / "behaviour", folder / "asked"

    def behaves(self, behaviour: str) -> None:
        arriving = self._behaviour.with_suffix(".part")
        arriving.write_text(behaviour)
        arriving.replace(self._behaviour)

    def asked(self) -> list[str]:
        """Every request from outside."""
        return self._asked.read_text().splitlines() if self._asked.exists() else []


@pytest.fixture
def stand_in(tmp_path: Path) -> StandIn:
    found = StandIn(tmp_path / "stand-in")
    assert shutil.which(str(found.program))
    return found
