"""What a cell shows: text that is drawn anew in its place, a checklist, pictures. Without IPython, lines of text."""

import base64
import html
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

MARKS = {"waits": "·", "runs": "…", "done": "✓", "failed": "✗"}
PNG, JPEG = "image/png", "image/jpeg"
Bundle = dict[str, str]


class Live:
    """One output of a cell. Each showing replaces the last; outside a notebook it follows it."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._last: Bundle = {}

    def text(self, text: str, *, bar: float | None = None) -> None:
        """With a progress bar above it when `bar` says how much is done, 0 to 1."""
        drawn = "" if bar is None else f'<progress style="width: 60%" value="{bar:.4f}" max="1"></progress>'
        self._show({"text/plain": text, "text/html": f"{drawn}<pre>{linked(text)}</pre>"})

    def picture(self, data: bytes, media_type: str, alt: str) -> None:
        self._show({media_type: base64.b64encode(data).decode(), "text/plain": alt})

    def pictures(self, captioned: Sequence[tuple[str, bytes, str]]) -> None:
        """Side by side: caption, bytes and media type of each."""
        figures = "".join(
            f'<figure style="display: inline-block; margin: 4px"><img style="max-width: 512px" '
            f'src="data:{media_type};base64,{base64.b64encode(data).decode()}">'
            f"<figcaption>{html.escape(caption)}</figcaption></figure>"
            for caption, data, media_type in captioned
        )
        self._show({"text/html": figures, "text/plain": "\n".join(caption for caption, _, _ in captioned)})

    def _show(self, bundle: Bundle) -> None:
        if bundle == self._last:
            return
        self._last = bundle
        display = _display()
        if display is None:
            sys.stdout.write(bundle["text/plain"] + "\n")
        elif self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)


@dataclass
class Step:
    name: str
    state: str = "waits"
    detail: str = ""


@dataclass
class Checklist:
    """What is done, what happens now, and what comes."""

    steps: list[Step]
    _live: Live = field(default_factory=Live)

    @classmethod
    def of(cls, *names: str) -> "Checklist":
        return cls([Step(name) for name in names])

    def tell(self, name: str, detail: str, state: str = "runs") -> None:
        step = next(step for step in self.steps if step.name == name)
        step.state, step.detail = state, detail
        self._live.text(self.render())

    def done(self, name: str, detail: str) -> None:
        self.tell(name, detail, "done")

    def failed(self) -> None:
        """Whatever runs now."""
        for step in self.steps:
            if step.state == "runs":
                self.tell(step.name, step.detail, "failed")

    def render(self) -> str:
        width = max(len(step.name) for step in self.steps)
        return "\n".join(f"{MARKS[each.state]} {each.name:<{width}}  {each.detail}".rstrip() for each in self.steps)


def linked(text: str) -> str:
    """As HTML, with every address a link."""
    words = [
        f'<a href="{html.escape(word)}" target="_blank" rel="noopener">{html.escape(word)}</a>'
        if word.startswith(("http://", "https://"))
        else html.escape(word)
        for word in _split(text)
    ]
    return "".join(words)


def _split(text: str) -> list[str]:
    """Words and the white space between them, in their order."""
    parts: list[str] = []
    for character in text:
        if parts and parts[-1][-1].isspace() == character.isspace():
            parts[-1] += character
        else:
            parts.append(character)
    return parts


def _display() -> Any:
    """IPython's, inside a notebook alone."""
    if importlib.util.find_spec("IPython") is None:
        return None
    ipython = importlib.import_module("IPython")
    return importlib.import_module("IPython.display").display if ipython.get_ipython() is not None else None
