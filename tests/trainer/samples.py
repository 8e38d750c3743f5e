"""Webhook captures of real runs: SimpleTuner 3.1.6 and 4.8.0 on a tiny Flux, one message a line."""

import json
from pathlib import Path
from typing import Any

from api.trainer.messages import Message, parse
from api.trainer.state import TrainingState, fold

FOLDER = Path(__file__).resolve().parent.parent / "samples" / "simpletuner"


def bodies(name: str) -> list[dict[str, Any]]:
    return [json.loads(line)["body"] for line in (FOLDER / f"{name}.jsonl").read_text().splitlines()]


def messages(name: str) -> list[Message]:
    return [parse(body) for body in bodies(name)]


def folded(name: str) -> TrainingState:
    state = TrainingState()
    for line in (FOLDER / f"{name}.jsonl").read_text().splitlines():
        row = json.loads(line)
        state = fold(state, parse(row["body"]), row["time"])
    return state
