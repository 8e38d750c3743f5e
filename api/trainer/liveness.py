"""When a trainer that says nothing and does nothing is taken for hung. Pure."""

from dataclasses import dataclass, replace

HUNG_SECONDS = 15 * 60.0
CPU_SIGN_SECONDS = 1.0
"""Processor time that is no mere idling: the monitor threads of a hung trainer use less in a quarter of an hour."""


@dataclass(frozen=True, slots=True)
class LastSign:
    """What was seen at the trainer's last sign of life, and for how long there has been none since."""

    said: int
    """Bytes of its messages."""
    cpu_seconds: float
    """Used by all processes of its group."""
    silent_seconds: float = 0.0

    def after(self, seconds: float, said: int, cpu_seconds: float) -> "LastSign":
        """What is known when `seconds` later so much had been said and used; less, when processes have ended."""
        if said != self.said or not 0 <= cpu_seconds - self.cpu_seconds < CPU_SIGN_SECONDS:
            return LastSign(said, cpu_seconds)
        return replace(self, silent_seconds=self.silent_seconds + seconds)

    @property
    def hung(self) -> bool:
        return self.silent_seconds >= HUNG_SECONDS
