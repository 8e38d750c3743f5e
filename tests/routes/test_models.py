"""`/api/models`: LoRAs taken in, fetched, renamed, deleted and restored."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from api.models import Model
from api.models.base import utcnow
from api.services import loras
from api.settings import Settings
from tests.service import NOBODY, TO_Q, Service, assert_problem, serving, tiny_lora, tiny_tensors, with_values
from tests.trainer.lora_files import file_bytes


async def listed(service: Service, **query: Any) -> list[dict[str, Any]]:
    response = await service.client.get("/api/models/", params=query)
    assert response.status_code == 200
    return list(response.json()["items"])


async def purged(service: Service, *, days: int) -> int:
    """As the cpu worker does now and then."""
    async with service.resources.sessions.begin() as session:
        return await loras.purge(session, days)


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
    assert (await any_service.client.get(f"/api/models/{model['id']}")).json() | {"duplicate": False} == model
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


async def test_a_deleted_model_is_out_of_sight_and_comes_back(any_service: Service) -> None:
    model = await any_service.model()
    path, key = f"/api/models/{model['id']}", await any_service.lora_key(model["id"])
    assert (await any_service.client.delete(path)).status_code == 204
    for missing in (path, f"{path}/file"):
        assert_problem(await any_service.client.get(missing), 404, "model_not_found")
    assert_problem(await any_service.client.delete(path), 404, "model_not_found")
    assert_problem(await any_service.client.patch(path, json={"name": "you"}), 404, "model_not_found")
    body = {"prompt": "a photo", "model_id": model["id"]}
    assert_problem(await any_service.client.post("/api/generate/image", json=body), 404, "model_not_found")
    assert await listed(any_service) == []
    (deleted,) = await listed(any_service, deleted=True)
    assert deleted == model | {"deleted_at": deleted["deleted_at"]}
    assert deleted["deleted_at"]

    back = await any_service.client.post(f"{path}/restore")
    assert (back.status_code, back.json()) == (200, model)
    assert (await any_service.client.post(f"{path}/restore")).json() == model
    assert await listed(any_service) == [model]
    assert await any_service.resources.storage.size(key) is not None
    assert_problem(await any_service.client.post(f"/api/models/{NOBODY}/restore"), 404, "model_not_found")


async def test_what_was_deleted_long_ago_goes_for_good_and_takes_its_file_along(any_service: Service) -> None:
    before = await any_service.traces()
    first, second = await any_service.model(), await any_service.model(rank=8)
    keys = [await any_service.lora_key(model["id"]) for model in (first, second)]
    answer = await any_service.pictures(model_id=first["id"])
    await any_service.client.post(f"/api/assets/{answer['asset_id']}/cancel")
    assert (await any_service.client.delete(f"/api/models/{first['id']}")).status_code == 204
    assert await purged(any_service, days=1) == 0
    assert await purged(any_service, days=0) == 1
    await any_service.remove_leftovers()
    assert [await any_service.resources.storage.size(key) is not None for key in keys] == [False, True]
    asset = (await any_service.client.get(f"/api/assets/{answer['asset_id']}")).json()
    assert (asset["model_id"], asset["generation_config"]["loras"][0]["model_id"]) == (None, first["id"])
    assert_problem(await any_service.client.post(f"/api/models/{first['id']}/restore"), 404, "model_not_found")
    assert (await any_service.client.delete(f"/api/models/{second['id']}")).status_code == 204
    await purged(any_service, days=0)
    await any_service.remove_leftovers()
    after = await any_service.traces()
    assert {name: after[name] for name in ("files", "model")} == {name: before[name] for name in ("files", "model")}


async def test_a_deleted_lora_that_a_picture_waits_for_after_all_is_not_purged(service: Service) -> None:
    model = await service.model()
    await service.pictures(model_id=model["id"])
    async with service.resources.sessions.begin() as session:  # as a request at the same moment has it
        (await session.get_one(Model, UUID(model["id"]))).deleted_at = utcnow() - timedelta(days=99)
    assert await purged(service, days=1) == 0


async def test_a_model_is_renamed_and_its_file_stays(any_service: Service) -> None:
    model, _ = await any_service.model(), await any_service.model(name="you", rank=8)
    path = f"/api/models/{model['id']}"
    changed = await any_service.client.patch(path, json={"name": "you"})
    assert changed.status_code == 200
    assert changed.json() == model | {"name": "you", "version": 2}
    assert (await any_service.client.patch(path, json={"name": "you"})).json() == changed.json()
    worded = await any_service.client.patch(path, json={"trigger_word": "ohwx"})
    assert worded.json() == changed.json() | {"trigger_word": "ohwx"}
    assert (await any_service.client.patch(path, json={"trigger_word": None})).json() == changed.json()
    assert (await any_service.client.get(path)).json() == changed.json()


@pytest.mark.parametrize("body", [{"name": ""}, {"name": "a\nb"}, {"name": 3}, {"file_name": "x"}, {"name": "x" * 101}])
async def test_a_wrong_change_changes_nothing(service: Service, body: dict[str, Any]) -> None:
    model = await service.model()
    assert_problem(await service.client.patch(f"/api/models/{model['id']}", json=body), 422, "validation_failed")
    assert await listed(service) == [model]


@pytest.mark.parametrize("place", ["first", "stacked"])
async def test_a_lora_that_pictures_wait_for_is_not_deleted(any_service: Service, place: str) -> None:
    model = await any_service.model()
    choice = {"model_id": model["id"]}
    answer = await any_service.pictures(**(choice if place == "first" else {"loras": [choice]}))
    path = f"/api/models/{model['id']}"
    assert_problem(await any_service.client.delete(path), 409, "model_in_use")
    await any_service.client.post(f"/api/assets/{answer['asset_id']}/cancel")
    assert (await any_service.client.delete(path)).status_code == 204
    assert await listed(any_service) == []
