"""What ComfyUI prints: kept in a file that cannot grow without bound, and watched for what its API does not tell."""

import os
import re
from collections import deque
from pathlib import Path

_LINE_END = re.compile(rb"[\r\n]+")
_MAX_LINE_BYTES = 64 * 1024
_COMPLAINTS_KEPT = 1000
_LINES_KEPT = 100
# A LoRA that does not fit changes nothing and the prompt succeeds: only these lines tell (ComfyUI `comfy/lora.py`).
_LORA_COMPLAINTS = ("lora key not loaded", "ERROR lora")
# Printed after every prompt, before the next one begins (ComfyUI `main.py`, prompt_worker).
_PROMPT_END = "Prompt executed in "


class ChildLog:
    """Takes the raw output; a position is the number of lines so far and stays valid when the file is rotated."""

    def __init__(self, path: Path, max_bytes: int = 10_000_000) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._max_bytes = max_bytes
        self._file = path.open("ab", buffering=0)
        self._unfinished = b""
        self._last: deque[str] = deque(maxlen=_LINES_KEPT)
        self._complaints: deque[tuple[int, str]] = deque(maxlen=_COMPLAINTS_KEPT)
        self._ends: deque[int] = deque(maxlen=_LINES_KEPT)
        self.position = 0

    def feed(self, data: bytes) -> None:
        self._rotate_if_full()
        self._file.write(data)
        *lines, self._unfinished = _LINE_END.split(self._unfinished + data)
        for line in lines:
            self._take(line)
        if len(self._unfinished) > _MAX_LINE_BYTES:
            self._take(self._unfinished)
            self._unfinished = b""

    def lora_complaints(self, since: int) -> list[str]:
        """What was said about LoRAs after `since` and before the prompt that ran then had ended.

        Only when ComfyUI loads them: a prompt with the LoRAs of the one before it finds them in the cache.
        """
        end = next((end for end in self._ends if end > since), self.position)
        return [text for position, text in self._complaints if since < position <= end]

    @property
    def last_end(self) -> int:
        """Where the last prompt ended."""
        return self._ends[-1] if self._ends else 0

    def tail(self, lines: int) -> str:
        return "\n".join([*self._last][-lines:])

    def close(self) -> None:
        self._take(self._unfinished)
        self._unfinished = b""
        self._file.close()

    def _take(self, line: bytes) -> None:
        text = line.decode(errors="replace").strip()
        if not text:
            return
        self.position += 1
        self._last.append(text)
        if any(mark in text for mark in _LORA_COMPLAINTS):
            self._complaints.append((self.position, text))
        if text.startswith(_PROMPT_END):
            self._ends.append(self.position)

    def _rotate_if_full(self) -> None:
        if self._file.tell() >= self._max_bytes:
            self._file.close()
            os.replace(self.path, self.path.with_name(self.path.name + ".1"))
            self._file = self.path.open("ab", buffering=0)
