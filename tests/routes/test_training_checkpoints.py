"""`/api/training/{id}/checkpoints` and `/grid`: LoRAs of training checkpoints, tried, compared and promoted."""

import io
from typing import Any
from uuid import UUID

import httpx
import pytest
from PIL import Image

from api.models import TrainingCandidate, TrainingCheckpoint
from api.models.base import utcnow
from api.services import contact_sheets
from tests.candidates import add_candidate
from tests.service import NOBODY, Service, assert_problem, ids

ANSWER = {"prompt": "x", "base_model": "flux-tiny", "width": 64, "height": 64}


async def training_with(service: Service, *steps: int, **fields: Any) -> tuple[str, list[TrainingCandidate]]:
    """A training that has failed, with a LoRA of each of these steps."""
    training = await service.training(base_model="flux-tiny", alpha=2.0, trigger_word="ohwx", name="me")
    lease = await service.claim()
    async with service.resources.sessions.begin() as session:
        session.add(TrainingCheckpoint(session_id=UUID(training["id"]), step=250, stored_at=utcnow()))
    session_id = UUID(training["id"])
    storage = service.resources.storage
    rows = [
        await add_candidate(service.resources.sessions, storage, session_id, step, trigger_word="ohwx", **fields)
        for step in steps
    ]
    await service.client.post(f"/api/training/{training['id']}/cancel")
    await service.complete(lease)
    return training["id"], rows


async def listed(service: Service, training: str, **query: Any) -> dict[str, Any]:
    response = await service.client.get(f"/api/training/{training}/checkpoints", params=query)
    assert response.status_code == 200, response.text
    return dict(response.json())


# ---- list, download, promote, delete -----------------------------------------------------------------------------


async def test_every_checkpoint_is_listed_newest_first_page_by_page(any_service: Service) -> None:
    training, rows = await training_with(any_service, 250, 500, 750, loss=0.25)
    first = await listed(any_service, training, limit=2)
    rest = await listed(any_service, training, limit=2, cursor=first["next_cursor"])
    assert ids([*first["items"], *rest["items"]]) == [str(row.id) for row in reversed(rows)]
    assert rest["next_cursor"] is None

    shown = rest["items"][0]
    assert (shown["step"], shown["loss"], shown["resumable"], shown["model_id"]) == (250, 0.25, True, None)
    assert (shown["name"], shown["trigger_word"], shown["sha256"]) == ("me step 250", "ohwx", rows[0].sha256)
    assert not first["items"][0]["resumable"]
    response = await any_service.client.get(f"/api/training/{training}/checkpoints/250")
    assert response.json() == shown


async def test_a_junk_cursor_is_refused(service: Service) -> None:
    training, _ = await training_with(service)
    response = await service.client.get(f"/api/training/{training}/checkpoints", params={"cursor": "junk"})
    assert_problem(response, 422, "cursor_invalid")


async def test_the_file_of_a_step_is_given_out(any_service: Service) -> None:
    training, (row,) = await training_with(any_service, 250)
    got = await any_service.client.get(f"/api/training/{training}/checkpoints/250/file")
    if got.status_code == 307:
        async with httpx.AsyncClient(trust_env=False) as client:
            got = await client.get(got.headers["location"])
    assert len(got.content) == row.size_bytes
    assert row.file_name in got.headers["content-disposition"]


async def test_a_step_that_is_promoted_is_a_model_of_the_library_and_says_so(any_service: Service) -> None:
    training, _ = await training_with(any_service, 250)
    path = f"/api/training/{training}/checkpoints/250/promote"
    first = await any_service.client.post(path, json={"name": "best", "trigger_word": "sks"})
    again = await any_service.client.post(path, json={})
    assert (first.status_code, again.status_code) == (201, 201)
    model = first.json()
    assert (model["name"], model["trigger_word"], model["duplicate"]) == ("best", "sks", False)
    assert again.json() == {**model, "duplicate": True}
    assert (await listed(any_service, training))["items"][0]["model_id"] == model["id"]
    assert (await any_service.client.get(f"/api/models/{model['id']}/file")).status_code in (200, 307)


async def test_a_deleted_step_is_gone_and_its_model_is_not(service: Service) -> None:
    training, _ = await training_with(service, 250, 500)
    path = f"/api/training/{training}/checkpoints"
    model = (await service.client.post(f"{path}/250/promote", json={})).json()
    assert (await service.client.delete(f"{path}/250")).status_code == 204
    assert_problem(await service.client.delete(f"{path}/250"), 404, "checkpoint_not_found")
    assert [item["step"] for item in (await listed(service, training))["items"]] == [500]
    assert (await service.client.delete(path)).status_code == 204
    assert (await listed(service, training))["items"] == []
    await service.remove_leftovers()
    assert (await service.client.get(f"/api/models/{model['id']}/file")).status_code == 200
    assert [path.name for path in service.files() if path.suffix == ".safetensors"] == [model["file_name"]]


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/750"), ("GET", "/750/file"), ("POST", "/750/promote"), ("DELETE", "/750")]
)
async def test_a_step_that_there_is_not_is_not_found(service: Service, method: str, path: str) -> None:
    training, _ = await training_with(service, 250)
    sent: dict[str, Any] | None = {} if method == "POST" else None
    response = await service.client.request(method, f"/api/training/{training}/checkpoints{path}", json=sent)
    assert assert_problem(response, 404, "checkpoint_not_found")["value"] == "750"
    for junk in ("0", "-1", "x", "1.5", str(2**31)):
        wrong = f"/api/training/{training}/checkpoints{path.replace('750', junk)}"
        assert_problem(await service.client.request(method, wrong, json=sent), 422, "validation_failed")


@pytest.mark.parametrize("body", [{"name": ""}, {"name": "a\nb"}, {"trigger_word": 1}, {"nam": "x"}])
async def test_a_wrong_wish_promotes_nothing(service: Service, body: dict[str, Any]) -> None:
    training, _ = await training_with(service, 250)
    response = await service.client.post(f"/api/training/{training}/checkpoints/250/promote", json=body)
    assert_problem(response, 422, "validation_failed")
    assert (await service.client.get("/api/models/")).json()["items"] == []


# ---- tried in a picture ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stacked", [False, True])
async def test_a_picture_is_drawn_with_a_checkpoint_and_can_be_asked_for_again(
    any_service: Service, stacked: bool
) -> None:
    training, (row,) = await training_with(any_service, 250)
    one = {"checkpoint_id": str(row.id)}
    body = {"loras": [{**one, "scale": 0.5}]} if stacked else {**one, "lora_scale": 0.5}
    started = await any_service.pictures(base_model="flux-tiny", width=64, height=64, **body)

    asset = (await any_service.client.get(f"/api/assets/{started['asset_id']}")).json()
    (lora,) = asset["generation_config"]["loras"]
    expected = {"checkpoint_id": str(row.id), "training_id": training, "step": 250, "scale": 0.5}
    assert lora == {**expected, "file": row.file_name, "storage_path": row.storage_path, "sha256": row.sha256}
    assert (asset["model_id"], asset["generation_config"]["prompt_sent"]) == (None, "ohwx, a photo")
    again = (await any_service.client.get(f"/api/assets/{started['asset_id']}/recreate")).json()
    assert again["body"]["loras"] == [{"checkpoint_id": str(row.id), "scale": 0.5}]

    refused = await any_service.client.delete(f"/api/training/{training}/checkpoints/250")
    assert_problem(refused, 409, "checkpoint_in_use")
    await any_service.client.post(f"/api/assets/{started['asset_id']}/cancel")
    assert (await any_service.client.delete(f"/api/training/{training}/checkpoints/250")).status_code == 204
    gone = await any_service.client.get(f"/api/assets/{started['asset_id']}/recreate")
    assert row.file_name in assert_problem(gone, 409, "asset_not_recreatable")["detail"]


async def test_a_checkpoint_and_a_model_are_stacked(service: Service) -> None:
    _, (row,) = await training_with(service, 250)
    model = await service.model(rank=7)
    body = {"model_id": model["id"], "loras": [{"checkpoint_id": str(row.id)}]}
    started = await service.pictures(base_model="flux-tiny", width=64, height=64, **body)
    asset = (await service.client.get(f"/api/assets/{started['asset_id']}")).json()
    assert asset["model_id"] == model["id"]
    assert [lora["file"] for lora in asset["generation_config"]["loras"]] == [model["file_name"], row.file_name]
    assert (await service.client.delete(f"/api/models/{model['id']}")).status_code == 409


@pytest.mark.parametrize(
    ("lora", "status", "code"),
    [
        ({"checkpoint_id": NOBODY}, 404, "checkpoint_not_found"),
        ({"checkpoint_id": NOBODY, "model_id": NOBODY}, 422, "validation_failed"),
        ({"scale": 1.0}, 422, "validation_failed"),
        ({"checkpoint_id": "junk"}, 422, "validation_failed"),
    ],
)
async def test_a_lora_that_cannot_be_meant_is_refused(
    service: Service, lora: dict[str, Any], status: int, code: str
) -> None:
    await service.pulse("flux-tiny")
    response = await service.client.post("/api/generate/image", json={**ANSWER, "loras": [lora]})
    assert_problem(response, status, code)


async def test_a_checkpoint_of_another_base_model_is_refused(service: Service) -> None:
    _, (row,) = await training_with(service, 250)
    await service.pulse("flux-tiny", "flux-dev")
    body = {**ANSWER, "checkpoint_id": str(row.id), "base_model": "flux-dev"}
    assert_problem(await service.client.post("/api/generate/image", json=body), 422, "lora_base_mismatch")


async def test_one_whose_file_is_gone_is_refused(service: Service) -> None:
    _, (row,) = await training_with(service, 250)
    await service.pulse("flux-tiny")
    await service.resources.storage.delete(str(row.storage_path))
    response = await service.client.post("/api/generate/image", json={**ANSWER, "checkpoint_id": str(row.id)})
    assert_problem(response, 409, "model_file_missing")


# ---- a grid ------------------------------------------------------------------------------------------------------


async def grid(service: Service, training: str, **body: Any) -> httpx.Response:
    await service.pulse("flux-tiny")
    asked = {"prompts": ["a", "b"], "width": 64, "height": 64, **body}
    return await service.client.post(f"/api/training/{training}/grid", json=asked)


async def test_a_grid_is_every_checkpoint_with_every_prompt_and_scale_and_one_picture(any_service: Service) -> None:
    training, _ = await training_with(any_service, 250, 500)
    response = await grid(any_service, training, scales=[0.5, 1.0], seeds=[7], without=True)
    assert response.status_code == 202, response.text
    started = response.json()
    assert len(started["asset_ids"]) == 2 * 2 * 2 + 2

    batch = (await any_service.client.get(f"/api/batches/{started['batch_id']}")).json()
    assert [(item["prompt"], item["scale"], item["seed"]) for item in batch["items"]] == [
        (prompt, scale, 7) for scale in (None, 0.5, 1.0, 0.5, 1.0) for prompt in ("a", "b")
    ]
    assert [item["step"] for item in batch["items"]] == [None] * 2 + [250] * 4 + [500] * 4
    assert (batch["request"]["training_id"], batch["request"]["steps"]) == (training, [250, 500])
    sheet = await any_service.client.get(started["sheet_url"])
    with Image.open(io.BytesIO(sheet.content)) as picture:
        assert picture.format == "JPEG"
    async with any_service.resources.sessions() as session:
        _, layout = await contact_sheets.contents(session, UUID(started["batch_id"]))
    steps = [f"step {step}, scale {scale}" for step in (250, 500) for scale in ("0.5", "1")]
    assert (layout.column_titles, layout.row_titles, layout.heading) == (["no LoRA", *steps], ["a", "b"], "seed 7")


async def test_a_grid_of_named_steps_has_no_others(service: Service) -> None:
    training, _ = await training_with(service, 250, 500, 750)
    started = (await grid(service, training, steps=[750, 250], prompts=["a"])).json()
    batch = (await service.client.get(f"/api/batches/{started['batch_id']}")).json()
    assert batch["request"]["steps"] == [250, 750]
    missing = await grid(service, training, steps=[250, 300])
    assert assert_problem(missing, 404, "checkpoint_not_found")["value"] == "300"


async def test_a_grid_of_one_picture_is_a_batch_too(service: Service) -> None:
    training, _ = await training_with(service, 250)
    started = (await grid(service, training, prompts=["a"])).json()
    assert (await service.client.get(started["sheet_url"])).status_code == 200


async def test_a_grid_that_cannot_be_drawn_leaves_nothing(service: Service) -> None:
    empty, _ = await training_with(service)
    full, _ = await training_with(service, 250)
    before = await service.traces()
    assert_problem(await grid(service, empty), 409, "no_checkpoints")
    many = [str(number) for number in range(251)]
    assert_problem(await grid(service, full, prompts=many, scales=[0.5, 1.0]), 422, "grid_too_large")
    assert_problem(await grid(service, full, prompts=[]), 422, "validation_failed")
    assert_problem(await grid(service, full, width=65536), 422, "validation_failed")
    assert await service.traces() == before


async def test_a_sweep_compares_checkpoints_of_several_trainings_with_models(any_service: Service) -> None:
    _, (here,) = await training_with(any_service, 250)
    _, (there,) = await training_with(any_service, 250, rank=7)
    model = await any_service.model()
    await any_service.pulse("flux-tiny")
    asked = {"models": [model["id"], None], "checkpoints": [str(here.id), str(there.id)], "scales": [0.5, 1.0]}
    body = {**asked, "prompts": ["a"], "seeds": [7], "width": 64, "height": 64}
    response = await any_service.client.post("/api/generate/sweep", json=body)
    assert response.status_code == 202, response.text

    batch_id = response.json()["batch_id"]
    batch = (await any_service.client.get(f"/api/batches/{batch_id}")).json()
    assert [(item["model_id"], item["checkpoint_id"], item["scale"]) for item in batch["items"]] == [
        *((model["id"], None, scale) for scale in (0.5, 1.0)),
        (None, None, None),
        *((None, str(row.id), scale) for row in (here, there) for scale in (0.5, 1.0)),
    ]
    async with any_service.resources.sessions() as session:
        _, layout = await contact_sheets.contents(session, UUID(batch_id))
    assert len(layout.captions) == len(set(layout.captions.values())) == 7  # of one step both, and told apart


async def test_a_sweep_with_a_checkpoint_that_is_gone_leaves_nothing(service: Service) -> None:
    await training_with(service, 250)
    await service.pulse("flux-tiny")
    before = await service.traces()
    body = {"prompts": ["a"], "checkpoints": [NOBODY]}
    assert_problem(await service.client.post("/api/generate/sweep", json=body), 404, "checkpoint_not_found")
    assert await service.traces() == before
