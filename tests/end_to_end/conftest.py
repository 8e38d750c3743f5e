"""One service and one training, shared by the tests of the main path."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from api.selftest.dataset import make_dataset
from tests.end_to_end.service import Service, running_service
from tests.receiver import SECRET

TRAINING = {
    "base_model": "flux-tiny",
    "steps": 20,
    "rank": 32,
    "alpha": 16,
    "resolution": 64,
    "learning_rate": 2e-3,
    "lr_warmup_steps": 2,
    "checkpoint_interval": 10,
}


@dataclass(frozen=True)
class Trained:
    dataset: dict[str, Any]
    session: dict[str, Any]
    snapshots: list[dict[str, Any]]
    model: dict[str, Any]


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    make_dataset(folder)
    return folder


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, engines_dir: Path) -> Iterator[Service]:
    env = {"MASUKA_WEBHOOK_SECRET": SECRET, "MASUKA_WEBHOOK_PRIVATE": "true"}
    with running_service(tmp_path_factory.mktemp("service") / "data", engines_dir, env) as found:
        yield found


@pytest.fixture(scope="session")
def trained(service: Service, photos: Path) -> Trained:
    return train(service, photos)


def train(service: Service, photos: Path, **changes: Any) -> Trained:
    """Upload, train, and find the LoRA."""
    dataset = service.api.upload_dataset(photos, {"name": "star"})
    session = service.api.post("/api/training/flux", {"dataset_id": dataset["id"], **TRAINING, **changes})
    snapshots = service.follow(session["id"])
    assert snapshots[-1]["status"] == "completed", snapshots[-1]
    (model,) = (
        model for model in service.api.get("/api/models/")["items"] if model["training_session_id"] == session["id"]
    )
    return Trained(dataset, session, snapshots, model)
