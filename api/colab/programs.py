"""Our programs, run by a notebook: their words on the checklist while they work, and in the error when they fail."""

import collections
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from api.colab.errors import NotebookError

KEPT_LINES = 30
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Programs:
    """Of one checkout."""

    root: Path
    env: Mapping[str, str]

    def masuka(self, *words: str, tell: Tell = lambda line: None) -> str:
        return self.run([str(self.root / ".venv" / "bin" / "masuka"), *words], tell)

    def module(self, name: str) -> str:
        """By the service's own Python."""
        return self.run([str(self.root / ".venv" / "bin" / "python"), "-m", name])

    def run(self, command: Sequence[str], tell: Tell = lambda line: None, *, may_fail: bool = False) -> str:
        """What it printed. Raises NotebookError with its last lines when it fails."""
        process = subprocess.Popen(
            command,
            cwd=self.root,
            env=dict(self.env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        with process:
            try:
                lines = _told(process, tell)
            except BaseException:  # the cell was interrupted: all that we run can be ended and run again
                process.terminate()
                raise
        if process.returncode and not may_fail:
            shown = "\n".join(collections.deque(lines, KEPT_LINES))
            name = " ".join([Path(command[0]).name, *command[1:3]])
            raise NotebookError(f"`{name}` failed:\n{shown}", code="program_failed", value=process.returncode)
        return "\n".join(lines)


def _told(process: "subprocess.Popen[str]", tell: Tell) -> list[str]:
    lines = []
    for line in process.stdout or ():
        lines.append(line.rstrip())
        if line.strip():
            tell(line.strip())
    return lines
