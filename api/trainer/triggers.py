"""The file by which a running trainer is asked to save or to draw: a count for each, and what it was raised for."""

import json
from dataclasses import dataclass
from typing import Any

from api.trainer.workdir import Workdir, write_json

COUNTS = {"checkpoint": "manual_checkpoint", "sample": "manual_validation"}
"""SimpleTuner's names, since 4.8; it leaves everything else in the file alone."""
_TOLD = "masuka"


@dataclass(frozen=True, slots=True)
class Told:
    """What the run that goes on was last told."""

    wish: str
    """As whoever wishes names it: told once, whoever asks again, and whatever crashes in between."""
    at: float
    """Seconds since the epoch."""


def told(workdir: Workdir, act: str) -> Told | None:
    """None when the newest run was not asked for this."""
    said = _read(workdir).get(_TOLD, {}).get(act)
    return None if said is None else Told(said["wish"], said["at"])


def tell(workdir: Workdir, act: str, new: Told) -> None:
    """Ask for it once more."""
    said = _read(workdir)
    count = said.get(COUNTS[act], 0) + 1
    write_json(
        workdir.triggers,
        {**said, COUNTS[act]: count, _TOLD: {**said.get(_TOLD, {}), act: {"wish": new.wish, "at": new.at}}},
    )


def _read(workdir: Workdir) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(workdir.triggers.read_text())
    return value
