"""A job that a cell follows: a bar, the loss as it falls, the pictures on the way. To stop watching stops nothing."""

import time
from collections.abc import Callable, Mapping
from typing import Any

from api.colab.client import Api
from api.colab.errors import NotebookError
from api.colab.show import PNG, Live

DRAWN_SECONDS = 0.5
PLOTTED_SECONDS = 15.0


def watch(api: Api, session: Mapping[str, Any]) -> dict[str, Any]:
    """Until the training's end, or an interrupt; the session as it is then. Raises NotebookError when it failed."""
    live, loss, samples = Live(), Live(), Live()
    name, session_id = session["name"], session["id"]
    plotted = 0.0

    def plot() -> None:
        nonlocal plotted
        if time.monotonic() - plotted > PLOTTED_SECONDS:
            plotted = time.monotonic()
            _plot(api, session_id, loss, samples)

    try:
        last = follow(api, session_id, live, f"Training {name}", plot)
    except KeyboardInterrupt:
        live.text(f"Training {name} goes on. Run this cell again to watch it; masuka.cancel('{name}') stops it.")
        return dict(api.get(f"/api/training/{session_id}"))
    _plot(api, session_id, loss, samples)
    if last["status"] != "completed":
        raise NotebookError(
            f"Training {name}: {last['status']}. {last['error_message'] or ''}".strip(),
            code=last["error_code"] or "training_cancelled",
            hint=" ".join(filter(None, (last["hint"], "Run this cell again to go on from its newest checkpoint."))),
        )
    return dict(api.get(f"/api/training/{session_id}"))


def follow(api: Api, any_id: str, live: Live, what: str, each: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """The last snapshot."""
    last: dict[str, Any] = {}
    drawn = 0.0
    for last in api.follow(any_id):
        if time.monotonic() - drawn > DRAWN_SECONDS:
            drawn = time.monotonic()
            live.text(said(what, last), bar=fraction(last))
            each()
    live.text(said(what, last), bar=fraction(last))
    return last


def said(what: str, snapshot: Mapping[str, Any]) -> str:
    """On one line: what it does, how far it is, how it learns, how long it will take."""
    parts = [what, snapshot["message"] or snapshot["stage"] or snapshot["status"]]
    if snapshot["total_steps"]:
        parts.append(f"{snapshot['step']}/{snapshot['total_steps']}")
    if snapshot["loss"] is not None:
        parts.append(f"loss {snapshot['loss']:.4f}")
    if snapshot["eta_seconds"] is not None:
        parts.append(f"{clock(snapshot['eta_seconds'])} left")
    return "  ".join(parts)


def fraction(snapshot: Mapping[str, Any]) -> float:
    done = snapshot["step"] / snapshot["total_steps"] if snapshot["total_steps"] else 0.0
    return 1.0 if snapshot["status"] == "completed" else min(1.0, done)


def clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _plot(api: Api, session_id: str, loss: Live, samples: Live) -> None:
    loss.picture(
        api.read(f"/api/training/{session_id}/metrics.png?width=720&height=320"), PNG, "The loss, step by step."
    )
    if api.get(f"/api/training/{session_id}/samples", limit=1)["items"]:
        sheet = api.read(f"/api/training/{session_id}/samples.png")
        samples.picture(sheet, PNG, "Samples, drawn at its training checkpoints.")
