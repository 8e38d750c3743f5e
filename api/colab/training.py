"""The second cell: pictures in, preflight, captions, and a training that is watched, not held."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api.colab import pictures_in, watching
from api.colab.client import Api, with_query
from api.colab.dataset import dataset_of
from api.colab.errors import NotebookError, ServiceProblem
from api.colab.programs import Programs
from api.colab.show import PNG, Live

TINY = {"steps": 60, "resolution": 64, "rank": 16, "alpha": 16, "learning_rate": 2e-3, "checkpoint_interval": 30}
"""What flux-tiny learns with; the defaults are for photographs."""
SEEN_BY_PREFLIGHT = ("base_model", "resolution", "batch_size", "steps", "rank")
WAITS = ("pending", "training")


@dataclass(frozen=True, slots=True)
class Plan:
    name: str
    source: str
    """A folder, a zip, or nothing: the browser is asked."""
    trigger_word: str
    captioner: str
    wishes: Mapping[str, Any]


def wishes_of(base_model: str, wishes: Mapping[str, Any]) -> dict[str, Any]:
    """Those that were made (0 and nothing are none), for this base model."""
    made = {name: value for name, value in wishes.items() if value not in (0, "", None)}
    chosen = {"base_model": base_model, **made}
    return {**TINY, **chosen} if chosen["base_model"] == "flux-tiny" and "preset" not in chosen else chosen


def train(api: Api, programs: Programs, uploads: Path, plan: Plan) -> dict[str, Any]:
    """The session as it is when the watching ends."""
    if not plan.name.strip():
        raise NotebookError("The training has no name.", code="name_missing", hint="Set NAME.")
    session = next((each for each in _named(api, plan.name) if each["status"] in WAITS), None)
    if session is None:
        dataset = dataset_of(
            api, pictures_in.files(uploads / safe(plan.name), plan.source), plan.name, plan.trigger_word
        )
        session = _earlier(api, dataset, plan) or _begin(api, programs, dataset, plan)
    return watching.watch(api, session)


def cancel(api: Api, name: str) -> None:
    """Raises NotebookError when no training of this name waits or runs."""
    running = [each for each in _named(api, name) if each["status"] in WAITS]
    if not running:
        raise NotebookError(f"No training {name!r} waits or runs.", code="training_not_found", value=name)
    for session in running:
        api.post(f"/api/training/{session['id']}/cancel")


def _named(api: Api, name: str) -> Iterator[dict[str, Any]]:
    """Newest first."""
    return (each for each in api.every("/api/training/") if each["name"] == name)


def _earlier(api: Api, dataset: Mapping[str, Any], plan: Plan) -> dict[str, Any] | None:
    """The newest of this name, pictures and wishes; one that did not end well goes on from its newest checkpoint."""
    for session in _named(api, plan.name):
        if session["dataset_id"] == dataset["id"] and plan.wishes.items() <= session["config"].items():
            if session["status"] == "completed":
                return session
            resumed: dict[str, Any] = api.post(f"/api/training/{session['id']}/resume")
            Live().text(f"It was {session['status']}, and goes on from step {resumed['resumes_from_step']}.")
            return resumed
    return None


# ---- a new training ----------------------------------------------------------------------------------------------


def _begin(api: Api, programs: Programs, dataset: Mapping[str, Any], plan: Plan) -> dict[str, Any]:
    if plan.captioner:
        _caption(api, programs, dataset["id"], plan.captioner)
    _preflight(api, dataset["id"], plan.wishes)
    before = [each["id"] for each in _named(api, plan.name)]
    body = {"dataset_id": dataset["id"], "name": plan.name, **plan.wishes}
    key = hashlib.sha256(json.dumps([body, before], sort_keys=True).encode()).hexdigest()
    session: dict[str, Any] = api.post("/api/training/flux", body, key=f"notebook-{key}")
    return session


def _preflight(api: Api, dataset_id: str, wishes: Mapping[str, Any]) -> None:
    """Shown before the start, which looks again and refuses what cannot work."""
    chosen = {name: wishes.get(name) for name in SEEN_BY_PREFLIGHT}
    found = api.get(f"/api/datasets/{dataset_id}/preflight", **chosen)
    sheet = api.read(with_query(f"/api/datasets/{dataset_id}/preflight.png", chosen))
    Live().picture(sheet, PNG, "Preflight: what each picture is trained on.")
    counts = ", ".join(f"{number} x {level}" for level, number in found["counts"].items() if number)
    verdicts = [f"{each['level']}: {each['message']} {each['hint']}" for each in found["verdicts"]]
    estimate = found["estimate"]["time"]
    takes = [f"It will take about {estimate['seconds'] / 60:.0f} minutes ({estimate['basis']})."] if estimate else []
    Live().text(
        "\n".join([f"Preflight of {len(found['images'])} pictures: {counts or 'nothing to say'}.", *verdicts, *takes])
    )


def _caption(api: Api, programs: Programs, dataset_id: str, captioner: str) -> None:
    """Those that people wrote are kept."""
    live = Live()
    known = {each["name"]: each for each in api.get("/api/captioners/")["items"]}
    if not known[captioner]["installed"]:
        programs.masuka("install", captioner, tell=live.text)
    try:
        started = api.post(f"/api/datasets/{dataset_id}/caption", {"captioner": captioner})
    except ServiceProblem as exc:
        if exc.code != "nothing_to_caption":
            raise
        live.text("Every picture has a caption already.")
        return
    last = watching.follow(api, started["captioning_id"], live, "Captions")
    if last["status"] != "completed":
        raise NotebookError(f"Captions: {last['error_message']}", code=last["error_code"], hint=last["hint"])


def safe(name: str) -> str:
    """As the name of a folder; never another one's."""
    if all(each.isalnum() or each in "-_" for each in name):
        return name
    return hashlib.sha256(name.encode()).hexdigest()[:16]
