"""Sweeps, previews and waiting, drawn by the real ComfyUI through the real service."""

import base64
import io
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.end_to_end.service import PROMPT, SIZE, Service
from tests.end_to_end.test_workflows import lora

pytestmark = [pytest.mark.engines, pytest.mark.timeout(300)]

LONG = {**SIZE, "prompt": PROMPT, "num_inference_steps": 150}
"""Long enough for previews, which come every half second."""


@pytest.fixture
def http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=service.api.url, timeout=100, trust_env=False) as client:
        yield client


def events(http: httpx.Client, any_id: str, **params: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and contents of a whole stream."""
    with http.stream("GET", f"/api/progress/stream/{any_id}", params=params) as response:
        assert response.status_code == 200
        name = "message"
        for line in response.iter_lines():
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                yield name, json.loads(value)
                name = "message"


def test_a_sweep_is_drawn_told_by_one_stream_and_shown_on_one_sheet(service: Service, http: httpx.Client) -> None:
    model = lora(service, "swept", 4)
    body = {**SIZE, "prompts": [PROMPT, "a red circle"], "seeds": [1, 2], "models": [model["id"], None]}
    answer = http.post("/api/generate/sweep", json=body).raise_for_status().json()
    assert len(answer["asset_ids"]) == 8

    told = [data for _, data in events(http, answer["batch_id"])]
    assert told[-1]["status"] == "completed", told[-1]
    assert [data["step"] for data in told] == sorted(data["step"] for data in told)
    assert len({data["step"] for data in told}) > 2, "partial results are told at once"
    done = [asset["asset_id"] for data in told for asset in data["assets"] if asset["status"] == "completed"]
    places = [done.index(asset_id) for asset_id in answer["asset_ids"]]
    assert all(abs(place - asked) <= 1 for asked, place in enumerate(places)), "in order, but that two are in flight"

    response = http.get(f"/api/batches/{answer['batch_id']}/sheet").raise_for_status()
    with Image.open(io.BytesIO(response.content)) as sheet:
        assert sheet.format == "JPEG"
        assert sheet.width > 2 * 64
        assert sheet.height > 4 * 64


def test_a_cancelled_batch_stops_and_keeps_what_is_drawn(http: httpx.Client) -> None:
    body = {**LONG, "num_images": 12, "seed": 1}
    batch_id = http.post("/api/generate/image", json=body).raise_for_status().json()["batch_id"]
    stream = (data for _, data in events(http, batch_id))
    next(data for data in stream if data["step"] >= 1)
    http.post(f"/api/batches/{batch_id}/cancel").raise_for_status()
    *_, last = stream
    assert last["status"] == "cancelled"
    assert last["counts"]["completed"] >= 1
    assert last["counts"]["cancelled"] >= 8


def test_previews_come_to_those_who_ask_and_to_nobody_else(http: httpx.Client) -> None:
    asset_id = http.post("/api/generate/image", json=LONG).raise_for_status().json()["asset_id"]
    seen = list(events(http, asset_id, previews=1))
    previews = [data for name, data in seen if name == "preview"]
    assert previews
    for preview in previews:
        assert preview["asset_id"] == asset_id
        data = base64.b64decode(preview["image"].removeprefix("data:image/jpeg;base64,"))
        with Image.open(io.BytesIO(data)) as image:
            assert (image.format, max(image.size)) == ("JPEG", 256)
    asset_id = http.post("/api/generate/image", json=LONG).raise_for_status().json()["asset_id"]
    assert {name for name, _ in events(http, asset_id)} == {"message"}


def test_who_waits_and_accepts_a_png_gets_the_picture(http: httpx.Client) -> None:
    body = {**SIZE, "prompt": PROMPT, "seed": 5}
    response = http.post("/api/generate/image", params={"wait": 60}, json=body, headers={"Accept": "image/png"})
    assert (response.status_code, response.headers["content-type"]) == (200, "image/png"), response.text
    with Image.open(io.BytesIO(response.content)) as image:
        assert (image.format, image.size) == ("PNG", (64, 64))
    result = http.post("/api/generate/image", params={"wait": 60}, json=body)
    assert (result.status_code, result.json()["assets"][0]["status"]) == (200, "completed")
