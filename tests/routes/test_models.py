"""`/api/models`: LoRAs taken in, fetched and deleted."""

import httpx
import pytest

from api.settings import Settings
from tests.service import TO_Q, Service, assert_problem, serving, tiny_lora, tiny_tensors, with_values
from tests.trainer.lora_files import file_bytes


async def test_an_imported_lora_is_checked_named_by_its_content_and_given_back(any_service: Service) -> None:
    data = tiny_lora()
    response = await any_service.import_lora(data, name="My Face!", trigger_word="ohwx")
    assert response.status_code == 201
    model = response.json()
    assert (model["name"], model["version"], model["base_model"]) == ("My Face!", 1, "flux-tiny")
    assert (model["trigger_word"], model["training_session_id"]) == ("ohwx", None)
    metadata = model["model_metadata"]
    assert (metadata["rank"], metadata["modules"], metadata["size_bytes"]) == (4, 1, len(data))
    assert model["file_name"] == f"my-face-{metadata['sha256'][:8]}.safetensors"
    assert (await any_service.client.get(f"/api/models/{model['id']}")).json() == model
    got = await any_service.client.get(f"/api/models/{model['id']}/file")
    if got.status_code == 307:
        async with httpx.AsyncClient(trust_env=False) as client:
            got = await client.get(got.headers["location"])
    assert got.content == data
    assert model["file_name"] in got.headers["content-disposition"]


async def test_the_versions_of_one_name_are_counted(service: Service) -> None:
    versions = [(await service.import_lora(tiny_lora(rank=rank))).json()["version"] for rank in (1, 2, 3)]
    assert versions == [1, 2, 3]
    assert (await service.model(name="other"))["version"] == 1


@pytest.mark.parametrize("name", [TO_Q, "lora_transformer_transformer_blocks_0_attn_to_q"])
async def test_loras_of_every_naming_are_taken(service: Service, name: str) -> None:
    assert (await service.import_lora(tiny_lora(name=name))).status_code == 201


async def test_a_lora_may_be_larger_than_a_picture(settings: Settings, valkey_url: str) -> None:
    data = file_bytes(tiny_tensors(), {"note": "x" * 1_500_000})
    limits = {"masuka_max_file_mb": 1, "masuka_max_upload_mb": 2}
    async with serving(with_values(settings, redis_url=valkey_url, **limits)) as service:
        assert (await service.import_lora(data)).status_code == 201
        assert_problem(await service.upload({"a.png": data}, name="me"), 413, "file_too_large")


async def test_deleting_a_model_removes_its_file_and_not_that_of_another_with_the_same_content(
    any_service: Service,
) -> None:
    before = await any_service.traces()
    first, second = await any_service.model(), await any_service.model()
    keys = [await any_service.lora_key(model["id"]) for model in (first, second)]
    storage = any_service.resources.storage
    assert first["file_name"] == second["file_name"]
    assert (await any_service.client.delete(f"/api/models/{first['id']}")).status_code == 204
    await any_service.remove_leftovers()
    assert [await storage.size(key) is not None for key in keys] == [False, True]
    assert (await any_service.client.delete(f"/api/models/{second['id']}")).status_code == 204
    await any_service.remove_leftovers()
    assert await storage.size(keys[1]) is None
    assert await any_service.traces() == before


@pytest.mark.parametrize("place", ["first", "stacked"])
async def test_a_lora_that_pictures_wait_for_is_not_deleted(any_service: Service, place: str) -> None:
    model = await any_service.model()
    choice = {"model_id": model["id"]}
    answer = await any_service.pictures(**(choice if place == "first" else {"loras": [choice]}))
    path = f"/api/models/{model['id']}"
    assert_problem(await any_service.client.delete(path), 409, "model_in_use")
    await any_service.client.post(f"/api/assets/{answer['asset_id']}/cancel")
    assert (await any_service.client.delete(path)).status_code == 204
    asset = (await any_service.client.get(f"/api/assets/{answer['asset_id']}")).json()
    assert asset["model_id"] is None
    assert asset["generation_config"]["loras"][0]["model_id"] == model["id"]
