"""The file that keeps every message of a run: one JSON line each, in the order of arrival. Standard library only."""

import contextlib
import json
import os
import queue
import sys
import threading
import time
from pathlib import Path
from typing import Any

MAX_BACKLOG = 20_000
"""Messages held in memory while the disk takes none."""
DISK_RETRY_SECONDS = 0.5


class Journal:
    """Appends messages to one file, by one thread; a full disk delays it and never stops the run."""

    def __init__(self, path: Path) -> None:
        self.written = 0
        self.lost = 0
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._queue: queue.SimpleQueue[tuple[float, Any] | None] = queue.SimpleQueue()
        self._give_up_at = float("inf")
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, message: Any) -> None:
        if self._queue.qsize() >= MAX_BACKLOG:
            self.lost += 1
        else:
            self._queue.put((time.time(), message))

    def close(self, patience_seconds: float) -> None:
        """Return when all is written, or counted as lost because the disk took nothing for so long."""
        self._give_up_at = time.monotonic() + patience_seconds
        self._queue.put(None)
        self._thread.join()
        os.close(self._fd)

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            at, message = item
            record = {"seq": self.written + 1, "time": at, "message": message}
            line = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode(errors="replace") + b"\n"
            if self._append(line):
                self.written += 1
            else:
                self.lost += 1

    def _append(self, line: bytes) -> bool:
        """Write `line` whole or not at all."""
        while True:
            size = os.fstat(self._fd).st_size
            try:
                rest = line
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
            except OSError as exc:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._fd, size)
                if time.monotonic() >= self._give_up_at:
                    return False
                say(f"cannot write events: {exc}")
                time.sleep(DISK_RETRY_SECONDS)
            else:
                return True


def say(text: str) -> None:
    """Write a line to the runner's own log."""
    with contextlib.suppress(OSError):  # the log may be what fills the disk
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
