"""Cancel stops exactly the one that was meant, and the GPU is free again soon."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.end_to_end.conftest import TRAINING
from tests.end_to_end.service import SIZE, Service

pytestmark = [pytest.mark.engines, pytest.mark.timeout(300)]

LONG = {**SIZE, "num_inference_steps": 200, "width": 512, "height": 512, "prompt": "a red circle"}
"""Half a minute or more on a CPU: there is time to cancel it."""


def start(service: Service, body: dict[str, Any]) -> str:
    asset_id: str = service.api.post("/api/generate/image", body)["asset_id"]
    return asset_id


def until(snapshots: Iterator[dict[str, Any]], **wanted: Any) -> dict[str, Any]:
    """Follow until a snapshot has these values."""
    for snapshot in snapshots:
        if all(snapshot[key] == value for key, value in wanted.items()):
            return snapshot
        assert snapshot["status"] not in ("completed", "failed", "cancelled"), snapshot
    raise AssertionError(f"the stream ended before {wanted}")


def trainers(service: Service) -> list[psutil.Process]:
    """Trainer processes of this service, by their working folder."""
    root = str(service.data_dir / "training")
    found = []
    for process in psutil.process_iter(["cwd", "cmdline"]):
        text = " ".join([process.info["cwd"] or "", *(process.info["cmdline"] or [])])
        if root in text:
            found.append(process)
    return found


def test_a_running_picture_is_cancelled_and_the_one_behind_it_is_made(service: Service) -> None:
    running, behind = start(service, LONG), start(service, {**SIZE, "prompt": "a blue square"})
    until(service.api.follow(running), stage="sampling")
    began = time.monotonic()
    service.api.post(f"/api/assets/{running}/cancel")
    assert service.follow(running)[-1]["status"] == "cancelled"
    assert time.monotonic() - began < 10
    assert service.follow(behind)[-1]["status"] == "completed"
    assert service.api.post(f"/api/assets/{running}/cancel")["status"] == "cancelled"


def test_a_waiting_picture_is_cancelled_and_the_running_one_goes_on(service: Service) -> None:
    first, second = (start(service, {**LONG, "num_inference_steps": 30}) for _ in range(2))
    waiting = start(service, LONG)
    until(service.api.follow(first), stage="sampling")
    assert service.api.post(f"/api/assets/{waiting}/cancel")["status"] == "cancelled"
    assert service.follow(first)[-1]["status"] == "completed"
    assert service.follow(second)[-1]["status"] == "completed"
    assert service.api.get(f"/api/assets/{waiting}")["status"] == "cancelled"


def test_a_running_training_is_cancelled_and_leaves_no_process_and_a_free_gpu(
    service: Service, photos: Path, tmp_path: Path
) -> None:
    dataset = service.api.upload_dataset(photos, {"name": "cancelled"})
    body = {"dataset_id": dataset["id"], **TRAINING, "steps": 2000}
    session = service.api.post("/api/training/flux", body)
    until(service.api.follow(session["id"]), stage="training")
    assert trainers(service)
    began = time.monotonic()
    service.api.post(f"/api/training/{session['id']}/cancel")
    assert service.follow(session["id"])[-1]["status"] == "cancelled"
    assert time.monotonic() - began < 60
    assert trainers(service) == []
    service.draw(tmp_path)
    assert service.api.get(f"/api/training/{session['id']}")["status"] == "cancelled"
