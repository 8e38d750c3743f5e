"""The campaign's own book: what was asked, answered and done, on disk before anything follows from it."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    time: float
    """Seconds since the epoch."""
    event: str
    about: dict[str, Any] = field(default_factory=dict)


class Ledger:
    """A JSON line per event; a campaign that was stopped goes on with the same file."""

    def __init__(self, path: Path) -> None:
        self.entries = list(_read(path)) if path.exists() else []
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a")
        if self.entries:
            self._file.write("\n")  # should the last line be torn

    def note(self, event: str, **about: Any) -> Entry:
        entry = Entry(time.time(), event, about)
        self._file.write(json.dumps({"time": entry.time, "event": event, **about}) + "\n")
        self._file.flush()
        self.entries.append(entry)
        return entry

    def of(self, *events: str) -> list[Entry]:
        return [entry for entry in self.entries if entry.event in events]

    def close(self) -> None:
        self._file.close()


def _read(path: Path) -> Iterator[Entry]:
    """All whole lines: whoever was killed while it wrote one had not acted on it yet."""
    for line in path.read_text().splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        yield Entry(value.pop("time"), value.pop("event"), value)
