"""One parameter of a workflow: what values it takes."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from api.domain.graph import Value
from api.domain.text import MAX_PROMPT_CHARACTERS, storable

_SHOWN_CHOICES = 8


class ParameterKind(StrEnum):
    INTEGER = "integer"
    NUMBER = "number"
    TEXT = "text"
    BOOLEAN = "true or false"
    CHOICE = "choice"
    IMAGE = "image"
    """The id of an asset or of an uploaded input."""


_JSON_TYPES = {
    ParameterKind.INTEGER: "integer",
    ParameterKind.NUMBER: "number",
    ParameterKind.BOOLEAN: "boolean",
}


@dataclass(frozen=True, slots=True)
class ParameterSpec:
    name: str
    kind: ParameterKind
    default: Value | None
    """None: it must be given; for `seed`: a random one."""
    minimum: float | None = None
    maximum: float | None = None
    step: int | None = None
    """Values are multiples of it."""
    choices: tuple[str, ...] = ()

    @property
    def required(self) -> bool:
        return self.kind is ParameterKind.IMAGE

    def schema(self) -> dict[str, Any]:
        if self.kind is ParameterKind.IMAGE:
            text = "The id of a finished asset, or of an input from POST /api/inputs/."
            return {"type": "string", "format": "uuid", "description": text}
        limits = {"minimum": self.minimum, "maximum": self.maximum, "multipleOf": self.step}
        if self.kind is ParameterKind.CHOICE:
            limits = {"enum": list(self.choices)}  # type: ignore[dict-item]
        elif self.kind is ParameterKind.TEXT:
            limits = {"maxLength": MAX_PROMPT_CHARACTERS}
        found = {"type": _JSON_TYPES.get(self.kind, "string"), "default": self.default, **limits}
        return {key: value for key, value in found.items() if value is not None}

    def problem(self, value: object) -> str | None:
        """Why this value cannot be taken."""
        if self.kind in (ParameterKind.INTEGER, ParameterKind.NUMBER):
            return self._number_problem(value)
        if self.kind is ParameterKind.BOOLEAN:
            return None if isinstance(value, bool) else "must be true or false"
        if not isinstance(value, str):
            return "must be text"
        if self.kind is ParameterKind.CHOICE:
            return None if value in self.choices else f"must be one of {shown(self.choices)}"
        return _image_problem(value) if self.kind is ParameterKind.IMAGE else _text_problem(value)

    def _number_problem(self, value: object) -> str | None:
        whole = self.kind is ParameterKind.INTEGER
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            return "must be a whole number" if whole else "must be a number"
        if isinstance(value, float) and not math.isfinite(value):
            return "must be a finite number"
        if self.minimum is not None and value < self.minimum:
            return f"must be at least {self.minimum}"
        if self.maximum is not None and value > self.maximum:
            return f"must be at most {self.maximum}"
        if self.step is not None and value % self.step:
            return f"must be a multiple of {self.step}"
        return None


def shown(names: tuple[str, ...], count: int = _SHOWN_CHOICES) -> str:
    """Some of these names, for a message."""
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return (", ".join(names[:count]) or "none") + more


def _text_problem(value: str) -> str | None:
    if len(value) > MAX_PROMPT_CHARACTERS:
        return f"must have at most {MAX_PROMPT_CHARACTERS} characters"
    try:
        storable(value)
    except ValueError as exc:
        return str(exc)
    return None


def _image_problem(value: str) -> str | None:
    try:
        UUID(value)
    except ValueError:
        return "must be the id of an asset or of an input"
    return None
