"""One thing that is said about a dataset, or about a picture of it, before it is trained on."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    ERROR = "error"
    """The training would fail, or leave the picture out: it is not started."""
    WARNING = "warning"
    """Likely to make a worse LoRA."""
    ADVICE = "advice"
    """Good to know."""


@dataclass(frozen=True, slots=True)
class Verdict:
    level: Level
    code: str
    """Stable."""
    message: str
    hint: str = ""


def error(code: str, message: str, hint: str) -> Verdict:
    return Verdict(Level.ERROR, code, message, hint)


def warning(code: str, message: str, hint: str) -> Verdict:
    return Verdict(Level.WARNING, code, message, hint)


def advice(code: str, message: str, hint: str = "") -> Verdict:
    return Verdict(Level.ADVICE, code, message, hint)
