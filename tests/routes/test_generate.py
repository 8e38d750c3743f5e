"""`/api/generate` and `/api/assets`: pictures asked for, looked at, fetched and deleted."""

from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from api.domain.generation import MAX_SEED
from api.errors import EngineError
from api.models import GeneratedAsset
from api.settings import Settings
from tests.service import Service, assert_problem, ids, png, serving, tiny_lora, with_values


async def _asset(service: Service, asset_id: str) -> dict[str, Any]:
    return dict((await service.client.get(f"/api/assets/{asset_id}")).json())


async def _make(service: Service, tmp_path: Path) -> tuple[str, bytes]:
    """A finished picture, as the worker would leave it: its id and bytes."""
    asset_id = (await service.pictures())["asset_id"]
    lease = await service.claim()
    data, source, key = png(5), tmp_path / "made.png", f"assets/{asset_id}.png"
    source.write_bytes(data)
    stored = await service.resources.storage.put_file(key, source)
    async with service.resources.sessions.begin() as session:
        asset = await session.get(GeneratedAsset, UUID(asset_id))
        assert asset is not None
        asset.storage_path = key
        asset.generation_config = {**asset.generation_config, "output": {"sha256": stored.sha256}}
    await service.complete(lease)
    return asset_id, data


async def test_a_picture_is_one_job_with_every_choice_written_down(any_service: Service) -> None:
    answer = await any_service.pictures(prompt="a  photo\nof é 👍", negative_prompt="blur", true_cfg_scale=2.0, seed=7)
    assert (answer["status"], answer["asset_ids"], answer["seed"]) == ("pending", [answer["asset_id"]], 7)
    assert answer["warnings"] == []
    asset = await _asset(any_service, answer["asset_id"])
    assert (asset["prompt"], asset["negative_prompt"]) == ("a  photo\nof é 👍", "blur")
    assert (asset["status"], asset["task_id"], asset["model_id"]) == ("pending", answer["task_id"], None)
    assert asset["generation_config"] == {
        "base_model": "flux-dev",
        "workflow": "flux_text_to_image",
        "seed": 7,
        "width": 1024,
        "height": 1024,
        "num_inference_steps": 28,
        "guidance_scale": 3.5,
        "true_cfg_scale": 2.0,
        "loras": [],
        "prompt_sent": "a  photo\nof é 👍",
        "parameters": {"sampler": "euler", "scheduler": "simple"},
    }


async def test_several_pictures_are_several_jobs_with_seeds_in_a_row(any_service: Service) -> None:
    answer = await any_service.pictures(num_images=5, seed=MAX_SEED - 4)
    assets = [await _asset(any_service, asset_id) for asset_id in answer["asset_ids"]]
    assert [asset["generation_config"]["seed"] for asset in assets] == list(range(MAX_SEED - 4, MAX_SEED + 1))
    assert len({asset["task_id"] for asset in assets}) == 5
    assert answer["task_id"] == assets[0]["task_id"]
    listed = (await any_service.client.get("/api/assets/")).json()["items"]
    assert ids(listed) == answer["asset_ids"][::-1]
    assert [str((await any_service.claim()).job_id) for _ in range(5)] == [asset["task_id"] for asset in assets]


async def test_without_a_seed_a_random_one_is_taken_and_told(service: Service) -> None:
    first, second = await service.pictures(), await service.pictures(seed=None)
    assert first["seed"] != second["seed"]
    for answer in (first, second):
        assert 0 <= answer["seed"] <= MAX_SEED
        assert (await _asset(service, answer["asset_id"]))["generation_config"]["seed"] == answer["seed"]


async def test_a_negative_prompt_without_effect_is_said_so(service: Service) -> None:
    (warning,) = (await service.pictures(negative_prompt="blur"))["warnings"]
    assert "true_cfg_scale" in warning


@pytest.mark.parametrize(("chosen", "expected"), [("", "flux-dev"), ("flux-tiny", "flux-tiny")])
async def test_the_base_model_is_the_set_one_else_flux_dev(
    settings: Settings, valkey_url: str, chosen: str, expected: str
) -> None:
    async with serving(with_values(settings, redis_url=valkey_url, masuka_base_model=chosen)) as service:
        asset = await _asset(service, (await service.pictures())["asset_id"])
    assert asset["generation_config"]["base_model"] == expected


async def test_a_lora_brings_its_own_base_model(any_service: Service) -> None:
    model = await any_service.model()
    answer = await any_service.pictures(model_id=model["id"], lora_scale=0.5)
    asset = await _asset(any_service, answer["asset_id"])
    (lora,) = asset["generation_config"]["loras"]
    assert (asset["model_id"], asset["generation_config"]["base_model"]) == (model["id"], "flux-tiny")
    assert (lora["model_id"], lora["scale"], lora["file"]) == (model["id"], 0.5, model["file_name"])


async def test_loras_are_stacked_in_their_order(service: Service) -> None:
    first = await service.model()
    second = (await service.import_lora(tiny_lora(rank=8), name="other")).json()
    answer = await service.pictures(model_id=second["id"], loras=[{"model_id": first["id"], "scale": -1}])
    loras = (await _asset(service, answer["asset_id"]))["generation_config"]["loras"]
    assert [(lora["model_id"], lora["scale"]) for lora in loras] == [(second["id"], 1.0), (first["id"], -1.0)]


async def test_a_lora_of_another_base_model_is_refused(service: Service) -> None:
    model = await service.model()
    before = await service.traces()
    await service.pulse("flux-dev", "flux-tiny")
    body = {"prompt": "x", "base_model": "flux-dev", "model_id": model["id"]}
    problem = assert_problem(await service.client.post("/api/generate/image", json=body), 422, "lora_base_mismatch")
    assert problem["value"] == "flux-tiny"
    assert await service.traces() == before


async def test_a_lora_whose_file_is_gone_is_refused(any_service: Service) -> None:
    model = await any_service.model()
    before = await any_service.traces()
    await any_service.resources.storage.delete(await any_service.lora_key(model["id"]))
    await any_service.pulse("flux-tiny")
    body = {"prompt": "x", "model_id": model["id"]}
    response = await any_service.client.post("/api/generate/image", json=body)
    assert model["file_name"] in assert_problem(response, 409, "model_file_missing")["value"]
    assert_problem(await any_service.client.get(f"/api/models/{model['id']}/file"), 404, "file_missing")
    assert {**before, "files": 0} == {**await any_service.traces(), "files": 0}
    assert (await any_service.client.delete(f"/api/models/{model['id']}")).status_code == 204


# ---- assets --------------------------------------------------------------------------------------------------------


async def test_a_finished_picture_is_served_whole_and_in_ranges(service: Service, tmp_path: Path) -> None:
    asset_id, data = await _make(service, tmp_path)
    path = f"/api/assets/{asset_id}/file"
    whole = await service.client.get(path)
    assert (whole.content, whole.headers["content-type"]) == (data, "image/png")
    assert whole.headers["content-disposition"].startswith("inline")
    part = await service.client.get(path, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, data[10:20])
    assert (await service.client.get(path, headers={"Range": "bytes=999999-"})).status_code == 416
    asset = await _asset(service, asset_id)
    assert (asset["status"], asset["completed_at"] is not None) == ("completed", True)


async def test_from_a_bucket_a_picture_is_a_link(any_service: Service, tmp_path: Path) -> None:
    asset_id, data = await _make(any_service, tmp_path)
    response = await any_service.client.get(f"/api/assets/{asset_id}/file")
    if response.status_code == 307:
        async with httpx.AsyncClient(trust_env=False) as client:
            response = await client.get(response.headers["location"])
    assert (response.status_code, response.content) == (200, data)


async def test_a_picture_that_is_not_made_yet_has_no_file(service: Service) -> None:
    answer = await service.pictures()
    response = await service.client.get(f"/api/assets/{answer['asset_id']}/file")
    assert assert_problem(response, 409, "asset_not_ready")["value"] == "pending"


async def test_a_picture_that_is_waited_for_is_not_deleted_until_it_ends(service: Service) -> None:
    path = f"/api/assets/{(await service.pictures())['asset_id']}"
    assert_problem(await service.client.delete(path), 409, "asset_active")
    lease = await service.claim()
    assert assert_problem(await service.client.delete(path), 409, "asset_active")["value"] == "generating"
    await service.fail(lease, EngineError("It failed."))
    assert (await service.client.delete(path)).status_code == 204


async def test_a_picture_that_another_starts_from_is_not_deleted_until_that_has_ended(
    service: Service, tmp_path: Path
) -> None:
    asset_id, _ = await _make(service, tmp_path)
    run = {"parameters": {"image": asset_id, "prompt": "a photo"}}
    answer = await service.client.post("/api/workflows/flux_image_to_image/run", json=run)
    assert answer.status_code == 202, answer.text
    path = f"/api/assets/{asset_id}"
    assert assert_problem(await service.client.delete(path), 409, "asset_in_use")["value"] == "1"
    await service.remove_leftovers()
    assert (await service.client.get(f"{path}/file")).status_code == 200
    await service.fail(await service.claim(), EngineError("It failed."))
    assert (await service.client.post(f"/api/jobs/{answer.json()['task_id']}/retry")).status_code == 201
    assert_problem(await service.client.delete(path), 409, "asset_in_use")
    await service.client.post(f"/api/assets/{answer.json()['asset_id']}/cancel")
    assert (await service.client.delete(path)).status_code == 204


async def test_a_picture_is_cancelled_at_once_alone_and_for_good(any_service: Service) -> None:
    kept, cancelled = (await any_service.pictures(num_images=2))["asset_ids"]
    for _ in range(2):
        response = await any_service.client.post(f"/api/assets/{cancelled}/cancel")
        assert (response.status_code, response.json()["status"]) == (200, "cancelled")
    assert (await _asset(any_service, kept))["status"] == "pending"


async def test_a_finished_picture_cannot_be_cancelled(service: Service, tmp_path: Path) -> None:
    asset_id, _ = await _make(service, tmp_path)
    assert_problem(await service.client.post(f"/api/assets/{asset_id}/cancel"), 409, "job_finished")
