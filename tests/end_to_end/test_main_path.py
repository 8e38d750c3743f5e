"""Photos in, LoRA trained, pictures out: the main job on the real engines, through the real service."""

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.end_to_end.conftest import TRAINING, Trained
from tests.end_to_end.service import SIZE, Service, files_below, pixels

pytestmark = [pytest.mark.engines, pytest.mark.timeout(400)]


@pytest.fixture
def lora(service: Service, trained: Trained, tmp_path: Path) -> Path:
    return service.api.download(f"/api/models/{trained.model['id']}/file", tmp_path / trained.model["file_name"])


def header_of(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        found: dict[str, Any] = json.loads(file.read(length))
        return found


def without_alpha(source: Path, target: Path) -> Path:
    """The same LoRA as a trainer would have left it."""
    header = header_of(source)
    raw = source.read_bytes()
    start = 8 + struct.unpack("<Q", raw[:8])[0]
    kept, body = {}, b""
    for name, about in header.items():
        if name != "__metadata__" and not name.endswith(".alpha"):
            low, high = about["data_offsets"]
            kept[name] = {**about, "data_offsets": [len(body), len(body) + high - low]}
            body += raw[start + low : start + high]
    text = json.dumps(kept).encode()
    target.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return target


def test_every_picture_of_the_upload_was_taken(trained: Trained) -> None:
    assert trained.dataset["image_count"] == 44
    assert {file["status"] for file in trained.dataset["files"]} == {"taken"}


def test_the_training_showed_its_steps_and_losses(trained: Trained) -> None:
    steps = [snapshot["step"] for snapshot in trained.snapshots]
    assert steps == sorted(steps)
    assert steps[-1] == trained.snapshots[-1]["total_steps"] == TRAINING["steps"]
    assert trained.snapshots[-1]["progress"] == 100
    assert any(snapshot["loss"] for snapshot in trained.snapshots)
    assert {"encoding_images", "training", "storing"} <= {snapshot["stage"] for snapshot in trained.snapshots}


def test_the_session_records_every_choice_and_its_end(service: Service, trained: Trained) -> None:
    session = service.api.get(f"/api/training/{trained.session['id']}")
    assert session["status"] == "completed"
    assert session["current_step"] == session["total_steps"] == 20
    assert session["current_loss"] > 0
    assert session["config"]["lr_scheduler"] == "constant_with_warmup"
    assert session["job"]["attempt"] == 1


def test_the_model_is_the_file_that_its_row_names(trained: Trained, lora: Path) -> None:
    sha256 = hashlib.sha256(lora.read_bytes()).hexdigest()
    assert trained.model["model_metadata"]["sha256"] == sha256
    assert trained.model["file_name"] == f"star-{sha256[:8]}.safetensors"
    assert trained.model["model_metadata"]["rank"] == 32


def test_a_lora_changes_the_picture_and_scale_0_does_not(service: Service, trained: Trained, tmp_path: Path) -> None:
    bare = pixels(service.draw(tmp_path))
    assert pixels(service.draw(tmp_path, model_id=trained.model["id"])) != bare
    assert pixels(service.draw(tmp_path, model_id=trained.model["id"], lora_scale=0.0)) == bare


def test_one_seed_gives_one_picture(service: Service, trained: Trained, tmp_path: Path) -> None:
    first, second = (pixels(service.draw(tmp_path, model_id=trained.model["id"], seed=9)) for _ in range(2))
    other = pixels(service.draw(tmp_path, model_id=trained.model["id"], seed=10))
    assert first == second != other


def test_alpha_16_at_rank_32_is_half_as_strong_as_the_file_without_alpha(
    service: Service, trained: Trained, lora: Path, tmp_path: Path
) -> None:
    bare = without_alpha(lora, tmp_path / "bare.safetensors")
    with bare.open("rb") as file:
        imported = service.api._json(
            "POST", "/api/models/import", data={"name": "bare", "base_model": "flux-tiny"}, files={"file": file}
        )
    ours = pixels(service.draw(tmp_path, model_id=trained.model["id"]))
    assert pixels(service.draw(tmp_path, model_id=imported["id"], lora_scale=0.5)) == ours
    assert pixels(service.draw(tmp_path, model_id=imported["id"], lora_scale=1.0)) != ours


def test_the_png_carries_its_graph_so_that_the_canvas_opens_it(
    service: Service, trained: Trained, tmp_path: Path
) -> None:
    path = service.draw(tmp_path, model_id=trained.model["id"], seed=1234)
    with Image.open(path) as image:
        graph = json.loads(image.text["prompt"])  # type: ignore[attr-defined]
    classes = {node["class_type"]: node for node in graph.values()}
    assert classes["KSampler"]["inputs"]["seed"] == 1234
    assert classes["LoraLoaderModelOnly"]["inputs"]["lora_name"] == trained.model["file_name"]


def test_n_pictures_are_n_jobs_with_consecutive_seeds(service: Service) -> None:
    started = service.api.post("/api/generate/image", {**SIZE, "prompt": "a red circle", "num_images": 3, "seed": 40})
    assets = []
    for asset_id in started["asset_ids"]:
        assert service.follow(asset_id)[-1]["status"] == "completed"
        assets.append(service.api.get(f"/api/assets/{asset_id}"))
    assert [asset["generation_config"]["seed"] for asset in assets] == [40, 41, 42]
    assert assets[0]["task_id"] == started["task_id"]
    assert len({asset["generation_config"]["output"]["sha256"] for asset in assets}) == 3


def test_a_picture_is_served_with_range_requests(service: Service, tmp_path: Path) -> None:
    path = service.draw(tmp_path)
    url = f"{service.api.url}/api/assets/{path.stem}/file"
    part = httpx.get(url, headers={"Range": "bytes=1-3"}, trust_env=False)
    assert (part.status_code, part.content) == (206, path.read_bytes()[1:4])


def test_a_negative_prompt_without_true_cfg_is_said_to_have_no_effect(service: Service) -> None:
    started = service.api.post("/api/generate/image", {**SIZE, "prompt": "a red circle", "negative_prompt": "blue"})
    assert "true_cfg_scale" in started["warnings"][0]
    assert service.follow(started["asset_id"])[-1]["status"] == "completed"


def test_nothing_temporary_is_left(service: Service, trained: Trained, tmp_path: Path) -> None:
    service.draw(tmp_path, model_id=trained.model["id"])
    assert files_below(service.data_dir / "tmp") == []
    assert files_below(service.data_dir / "comfyui" / "output") == []
    assert files_below(service.data_dir / "comfyui" / "temp") == []
    left = files_below(service.data_dir / "training" / trained.session["id"])
    assert [name for name in left if not name.startswith(("run/", "config/", "debug.log"))] == []
    loras = files_below(service.data_dir / "comfyui" / "models" / "loras")
    assert [name for name in loras if not name.endswith(".safetensors")] == []
