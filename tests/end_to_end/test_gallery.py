"""Pictures drawn by the real ComfyUI: made again, had in every form, found, deleted and restored."""

import json
from pathlib import Path

import pytest
from PIL import Image

from api.client import ApiProblem
from tests.end_to_end.service import SIZE, Service, pixels
from tests.service import tiny_lora
from tests.test_rendition import as_the_canvas_reads

pytestmark = [pytest.mark.engines, pytest.mark.timeout(300)]


def drawn_again(service: Service, asset_id: str, folder: Path) -> Path:
    request = service.api.get(f"/api/assets/{asset_id}/recreate")
    again = service.api.post(request["path"], request["body"])["asset_id"]
    assert service.follow(again)[-1]["status"] == "completed"
    return service.api.download(f"/api/assets/{again}/file", folder / f"{again}.png")


def test_the_request_for_a_picture_draws_it_again_pixel_for_pixel(service: Service, tmp_path: Path) -> None:
    files = {"file": ("a.safetensors", tiny_lora(6))}
    form = {"name": "again", "base_model": "flux-tiny", "trigger_word": "ohwx"}
    model = service.api._json("POST", "/api/models/import", data=form, files=files)
    stack = [{"model_id": model["id"], "scale": 1.5}]
    first = service.draw(tmp_path, prompt="a red circle", seed=None, loras=stack, guidance_scale=2.5)
    assert pixels(drawn_again(service, first.stem, tmp_path)) == pixels(first)
    other = service.draw(tmp_path, prompt="a red circle", seed=1, loras=stack, guidance_scale=2.5)
    assert pixels(other) != pixels(first)

    parameters = {**SIZE, "image": first.stem, "denoise": 0.7, "prompt": "a blue circle"}
    run = {"base_model": parameters.pop("base_model"), "parameters": parameters}
    asset_id = service.api.post("/api/workflows/flux_image_to_image/run", run)["asset_id"]
    assert service.follow(asset_id)[-1]["status"] == "completed"
    second = service.api.download(f"/api/assets/{asset_id}/file", tmp_path / f"{asset_id}.png")
    assert pixels(drawn_again(service, asset_id, tmp_path)) == pixels(second)


def test_every_form_of_a_picture_holds_the_graph_that_drew_it(service: Service, tmp_path: Path) -> None:
    path = service.draw(tmp_path, prompt="a gelber Kreis ☃")
    with Image.open(path) as image:
        graph = json.loads(image.text["prompt"])  # type: ignore[attr-defined]
    url = f"/api/assets/{path.stem}/file"
    webp = service.api.download(f"{url}?format=webp&quality=80", tmp_path / "a.webp")
    assert json.loads(as_the_canvas_reads(webp.read_bytes())["prompt"]) == graph
    jpeg = service.api.download(f"{url}?format=jpeg", tmp_path / "a.jpg")
    with Image.open(jpeg) as image:
        assert json.loads(image.getexif()[0x0110].removeprefix("prompt:")) == graph
    other = service.api.download(f"{url}?metadata=a1111", tmp_path / "a1111.png")
    with Image.open(other) as image:
        text = image.text["parameters"]  # type: ignore[attr-defined]
        assert json.loads(image.text["prompt"]) == graph  # type: ignore[attr-defined]
    assert text.startswith("a gelber Kreis ☃\nSteps: 4, Sampler: Euler")
    assert pixels(other) == pixels(path)
    small = service.api.download(f"/api/assets/{path.stem}/thumbnail", tmp_path / "small.webp")
    with Image.open(small) as image:
        assert (image.format, image.size) == ("WEBP", (64, 64))


def test_a_picture_is_found_marked_deleted_and_restored(service: Service, tmp_path: Path) -> None:
    path = service.draw(tmp_path, prompt="a zebra at noon", seed=77)
    service.api._json("PATCH", f"/api/assets/{path.stem}", json={"favourite": True, "tags": ["animals"]})
    queries: list[dict[str, str]] = [
        {"prompt": "Zebra"},
        {"search": "animals"},
        {"tag": "animals"},
        {"seed": "77"},
        {"favourite": "true", "workflow": "flux_text_to_image"},
    ]
    for query in queries:
        assert [item["id"] for item in service.api.get("/api/assets/", **query)["items"]] == [path.stem], query
    service.api._json("DELETE", f"/api/assets/{path.stem}")
    with pytest.raises(ApiProblem) as caught:
        service.api.get(f"/api/assets/{path.stem}")
    assert caught.value.code == "asset_not_found"
    service.api.post(f"/api/assets/{path.stem}/restore")
    again = service.api.download(f"/api/assets/{path.stem}/file", tmp_path / "again.png")
    assert again.read_bytes() == path.read_bytes()
