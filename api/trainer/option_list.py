"""The options of each SimpleTuner that MASUKA installs, as that version's own parser has them.

Kept as files, so that a request can be judged where no trainer is installed, in no time: to ask SimpleTuner itself
takes as long as the start of a training. A test compares them with what the installed one says.
"""

import json
from functools import cache
from pathlib import Path

from api.domain.expert import Option, OptionKind, Options
from api.errors import UnavailableError

FOLDER = Path(__file__).with_name("options")


@cache
def options_of(version: str) -> Options:
    """By name. Raises UnavailableError `trainer_options_unknown` for a version that was never asked."""
    path = next((path for path in FOLDER.glob("*.json") if path.stem == version), None)
    if path is None:
        known = ", ".join(sorted(path.stem for path in FOLDER.glob("*.json")))
        raise UnavailableError(
            f"The options of SimpleTuner {version} are not known here.",
            code="trainer_options_unknown",
            value=version,
            hint=f"Leave `expert` out, or install one of: {known}.",
        )
    return {
        name: Option(
            name,
            OptionKind(about["kind"]),
            tuple(about.get("choices", ())),
            about.get("least"),
            about.get("most"),
            tuple(about.get("families", ())),
        )
        for name, about in json.loads(path.read_text()).items()
    }
