"""A checkpoint of a real training is tried, compared, promoted and described, by the real ComfyUI."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.end_to_end.conftest import Trained
from tests.end_to_end.service import PROMPT, SIZE, Service, pixels

pytestmark = [pytest.mark.engines, pytest.mark.timeout(400)]

STEP = 10


@pytest.fixture
def checkpoint(service: Service, trained: Trained) -> dict[str, Any]:
    found: dict[str, Any] = service.api.get(f"/api/training/{trained.session['id']}/checkpoints/{STEP}")
    return found


def test_the_checkpoints_of_a_finished_training_are_there_with_their_loss(service: Service, trained: Trained) -> None:
    items = service.api.get(f"/api/training/{trained.session['id']}/checkpoints")["items"]
    assert [item["step"] for item in items] in ([20, 10], [10])
    assert all(item["rank"] == 32 and item["loss"] > 0 and item["size_mb"] > 0 for item in items)


def test_a_checkpoint_draws_what_its_model_draws_and_not_what_the_last_step_does(
    service: Service, trained: Trained, checkpoint: dict[str, Any], tmp_path: Path
) -> None:
    tried = pixels(service.draw(tmp_path, checkpoint_id=checkpoint["id"]))
    promote = f"/api/training/{trained.session['id']}/checkpoints/{STEP}/promote"
    model = service.api.post(promote, {"name": "star at ten"})
    assert service.api.post(promote, {})["id"] == model["id"]
    assert pixels(service.draw(tmp_path, model_id=model["id"])) == tried
    assert pixels(service.draw(tmp_path, model_id=trained.model["id"])) != tried
    assert pixels(service.draw(tmp_path)) != tried

    card = service.api.get(f"/api/models/{model['id']}/card")
    assert (card["step"], card["seed"], card["dataset"]["images"]) == (STEP, 42, 44)
    assert card["config"]["checkpoint_interval"] == 10
    assert {"version", "commit", "torch"} == set(card["engines"]["simpletuner"]) == set(card["engines"]["comfyui"])
    assert card["engines"]["simpletuner"]["torch"]
    assert card["engines"]["comfyui"]["commit"]
    assert card["base"]["licence"] == "MIT"
    assert httpx.delete(f"{service.api.url}/api/models/{model['id']}", trust_env=False).status_code == 204


def test_a_grid_is_one_picture_of_all_checkpoints_and_scales(
    service: Service, trained: Trained, tmp_path: Path
) -> None:
    asked = {**SIZE, "prompts": [PROMPT], "steps": [STEP], "scales": [0.0, 1.0], "seeds": [5], "without": True}
    started = service.api.post(f"/api/training/{trained.session['id']}/grid", asked)
    assert service.follow(started["batch_id"])[-1]["status"] == "completed"
    bare, off, on = (
        pixels(service.api.download(f"/api/assets/{asset}/file", tmp_path / f"{asset}.png"))
        for asset in started["asset_ids"]
    )
    assert bare == off != on
    sheet = httpx.get(f"{service.api.url}{started['sheet_url']}", trust_env=False)
    (tmp_path / "sheet.jpg").write_bytes(sheet.content)
    with Image.open(tmp_path / "sheet.jpg") as picture:
        assert picture.width > 3 * 64
