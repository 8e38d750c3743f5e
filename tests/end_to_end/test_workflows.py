"""Every shipped workflow, and a person's own, drawn by the real ComfyUI through the real service."""

import json
import re
import sqlite3
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from api.client import ApiProblem
from api.settings import PROJECT_ROOT
from tests.end_to_end.service import SIZE, Service, files_below
from tests.service import tiny_lora

pytestmark = [pytest.mark.engines, pytest.mark.timeout(300)]

SMALL = {"width": 64, "height": 64, "num_inference_steps": 4, "seed": 5}
PROMPT = "a red circle on a blue background"
Pixels = NDArray[np.int16]


def encoded(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def square(size: tuple[int, int] = (64, 64)) -> Image.Image:
    """A green square on grey, off the middle."""
    image = Image.new("RGB", size, (128, 128, 128))
    ImageDraw.Draw(image).rectangle((8, 8, 40, 40), fill=(0, 160, 0))
    return image


def half_mask() -> Image.Image:
    """White on the right half."""
    image = Image.new("L", (64, 64))
    ImageDraw.Draw(image).rectangle((32, 0, 63, 63), fill=255)
    return image


def upload(service: Service, image: Image.Image) -> str:
    answer = service.api._json("POST", "/api/inputs/", files={"file": ("picture.png", encoded(image))})
    assert (answer["width"], answer["height"]) == image.size
    return str(answer["input_id"])


def run(service: Service, name: str, folder: Path, /, **body: Any) -> tuple[dict[str, Any], Path]:
    """The finished asset and its file."""
    parameters = {**SMALL, "prompt": PROMPT, **body.pop("parameters", {})}
    request = {"base_model": "flux-tiny", "parameters": parameters, **body}
    asset_id = service.api.post(f"/api/workflows/{name}/run", request)["asset_id"]
    last = service.follow(asset_id)[-1]
    assert last["status"] == "completed", last
    path = service.api.download(f"/api/assets/{asset_id}/file", folder / f"{asset_id}.png")
    return service.api.get(f"/api/assets/{asset_id}"), path


def pixels(path: Path) -> Pixels:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=np.int16)


def graph_in(path: Path) -> dict[str, Any]:
    with Image.open(path) as image:
        found: dict[str, Any] = json.loads(image.text["prompt"])  # type: ignore[attr-defined]
        return found


def lora(service: Service, name: str, rank: int, **fields: str) -> dict[str, Any]:
    files = {"file": ("a.safetensors", tiny_lora(rank))}
    return service.api._json(
        "POST", "/api/models/import", data={"name": name, "base_model": "flux-tiny", **fields}, files=files
    )


def test_text_to_image_by_name_is_what_generate_makes(service: Service, tmp_path: Path) -> None:
    _, by_name = run(service, "flux_text_to_image", tmp_path)
    assert np.array_equal(pixels(by_name), pixels(service.draw(tmp_path, prompt=PROMPT, seed=5)))


def test_image_to_image_keeps_the_picture_at_denoise_0_and_draws_over_it_above(
    service: Service, tmp_path: Path
) -> None:
    start = upload(service, square())
    same, kept = run(service, "flux_image_to_image", tmp_path, parameters={"image": start, "denoise": 0.0})
    _, changed = run(service, "flux_image_to_image", tmp_path, parameters={"image": start, "denoise": 1.0})
    original = np.asarray(square(), dtype=np.int16)
    assert np.abs(pixels(kept) - original).mean() < 12, "only the VAE's loss"
    assert np.abs(pixels(changed) - original).mean() > 30
    assert same["generation_config"]["inputs"]["image"]["id"] == start


def test_image_to_image_starts_from_an_asset_too_and_scales_it(service: Service, tmp_path: Path) -> None:
    first, _ = run(service, "flux_text_to_image", tmp_path)
    asset, path = run(
        service,
        "flux_image_to_image",
        tmp_path,
        parameters={"image": first["id"], "denoise": 0.5, "width": 96, "height": 64},
    )
    assert pixels(path).shape == (64, 96, 3)
    assert asset["generation_config"]["output"]["width"] == 96


@pytest.mark.parametrize("masked_by", ["white", "transparency"])
def test_inpaint_draws_under_the_mask_and_leaves_every_other_pixel(
    service: Service, tmp_path: Path, masked_by: str
) -> None:
    picture = square()
    parameters: dict[str, Any] = {"image": upload(service, picture), "mask": ""}
    if masked_by == "white":
        parameters["mask"] = upload(service, half_mask())
    else:
        picture.putalpha(half_mask().point(lambda value: 255 - value))
        parameters |= {"mask": upload(service, picture), "mask_channel": "alpha"}
    _, path = run(service, "flux_inpaint", tmp_path, parameters=parameters)
    drawn, original = pixels(path), np.asarray(square(), dtype=np.int16)
    assert np.array_equal(drawn[:, :31], original[:, :31])
    assert np.abs(drawn[:, 33:] - original[:, 33:]).mean() > 30


def test_upscale_gives_a_larger_picture_of_the_same_thing(service: Service, tmp_path: Path) -> None:
    parameters = {"upscale_by": 1.5, "upscale_steps": 2, "upscale_denoise": 0.3}
    asset, path = run(service, "flux_upscale", tmp_path, parameters=parameters)
    assert pixels(path).shape == (96, 96, 3)
    _, small = run(service, "flux_text_to_image", tmp_path)
    with Image.open(path) as image:
        shrunk = np.asarray(image.convert("RGB").resize((64, 64)), dtype=np.int16)
    assert np.abs(shrunk - pixels(small)).mean() < 40
    assert asset["generation_config"]["parameters"]["upscale_by"] == 1.5


def test_a_stack_of_loras_is_chained_with_its_trigger_words(service: Service, tmp_path: Path) -> None:
    first = lora(service, "first", 2, trigger_word="ohwx")
    second = lora(service, "second", 3, trigger_word="circle")
    stack = [{"model_id": first["id"], "scale": 1.5}, {"model_id": second["id"], "scale": -0.5}]
    asset, path = run(service, "flux_text_to_image", tmp_path, loras=stack)
    assert (asset["prompt"], asset["generation_config"]["prompt_sent"]) == (PROMPT, f"ohwx, {PROMPT}")
    graph = graph_in(path)
    chained = [node["inputs"] for node in graph.values() if node["class_type"] == "LoraLoaderModelOnly"]
    assert [(node["lora_name"], node["strength_model"]) for node in chained] == [
        (first["file_name"], 1.5),
        (second["file_name"], -0.5),
    ]
    assert graph["4"]["inputs"]["text"] == f"ohwx, {PROMPT}"
    asset, _ = run(service, "flux_text_to_image", tmp_path, loras=stack, add_trigger_words=False)
    assert asset["generation_config"]["prompt_sent"] == PROMPT


def test_a_graph_that_went_through_comfyui_is_the_same_template_and_draws_the_same(
    service: Service, tmp_path: Path
) -> None:
    model = lora(service, "third", 5)
    stack = [{"model_id": model["id"], "scale": 1.0}]
    _, path = run(
        service,
        "flux_image_to_image",
        tmp_path,
        loras=stack,
        parameters={"image": upload(service, square()), "denoise": 0.8},
    )
    kept = service.api.post("/api/workflows/", {"name": "from_a_picture", "graph": graph_in(path)})
    origin = service.api.get("/api/workflows/flux_image_to_image")
    assert kept["parameters"]["properties"].keys() == origin["parameters"]["properties"].keys()
    assert kept["parameters"]["properties"]["denoise"]["default"] == 0.8
    _, again = run(service, "from_a_picture", tmp_path, parameters={"image": upload(service, square())})
    assert np.array_equal(pixels(again), pixels(path))


def test_a_deleted_workflow_still_draws_what_was_asked_with_it(service: Service, tmp_path: Path) -> None:
    graph = service.api.get("/api/workflows/flux_text_to_image")["graph"]
    service.api.post("/api/workflows/", {"name": "short_lived", "graph": graph})
    body = {"base_model": "flux-tiny", "parameters": {**SMALL, "prompt": PROMPT}, "num_images": 3}
    asset_ids = service.api.post("/api/workflows/short_lived/run", body)["asset_ids"]
    service.api._json("DELETE", "/api/workflows/short_lived")
    for asset_id in asset_ids:
        assert service.follow(asset_id)[-1]["status"] == "completed"
    with pytest.raises(ApiProblem) as caught:
        service.api.post("/api/workflows/short_lived/run", body)
    assert caught.value.code == "workflow_not_found"


def test_the_worked_example_of_the_documentation_works(service: Service, tmp_path: Path) -> None:
    graph = service.api.get("/api/workflows/flux_text_to_image")["graph"]
    title = "Sharpen [[sharpen_radius, alpha=sharpness]]"
    sharpen = {"sharpen_radius": 1, "sigma": 1.0, "alpha": 1.0, "image": ["10", 0]}
    graph["12"] = {"inputs": sharpen, "class_type": "ImageSharpen", "_meta": {"title": title}}
    graph["11"]["inputs"]["images"] = ["12", 0]
    (tmp_path / "sharp.json").write_text(json.dumps(graph))
    page = (PROJECT_ROOT / "docs" / "workflows.md").read_text()
    assert title in page
    (script,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    script = script.replace("http://127.0.0.1:8000", service.api.url)
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, capture_output=True, check=True)
    kept, started = [json.loads(line) for line in done.stdout.decode().replace("}{", "}\n{").splitlines()]
    assert kept["parameters"]["properties"]["sharpness"]["default"] == 1.0
    assert service.follow(started["asset_id"])[-1]["status"] == "completed"
    assert service.api.get(f"/api/assets/{started['asset_id']}")["generation_config"]["parameters"]["sharpness"] == 0.5


def test_control_characters_of_a_prompt_arrive_and_harm_nothing(service: Service, tmp_path: Path) -> None:
    prompt = 'a red circle\x07\x1b[31m\t\r\n"; \\u0000 </script> \u202e'
    asset, path = run(service, "flux_text_to_image", tmp_path, parameters={"prompt": prompt})
    assert asset["prompt"] == graph_in(path)["4"]["inputs"]["text"] == prompt


def test_what_comfyui_says_of_its_nodes_is_kept_for_when_it_sleeps(service: Service, tmp_path: Path) -> None:
    service.draw(tmp_path, **SIZE)
    with sqlite3.connect(service.data_dir / "masuka.db") as database:
        ((nodes,),) = database.execute("SELECT nodes FROM engine_snapshot WHERE engine = 'comfyui'").fetchall()
    assert {"KSampler", "TrainLoraNode"} <= json.loads(nodes).keys()


def test_no_input_picture_is_left_in_comfyui(service: Service, tmp_path: Path) -> None:
    run(service, "flux_image_to_image", tmp_path, parameters={"image": upload(service, square())})
    assert files_below(service.data_dir / "comfyui" / "input") == []
