"""`/api/assets`: found by what is known of a picture, marked, deleted and restored, asked for again."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlmodel import col

from api.errors import EngineError
from api.models import GeneratedAsset, Thumbnail
from api.models.base import utcnow
from api.services import jobs
from api.tasks.purge_assets import purge_assets
from tests.finished import finished
from tests.service import NOBODY, Service, assert_problem, ids

ASSETS = "/api/assets/"


async def found(service: Service, **params: Any) -> list[str]:
    response = await service.client.get(ASSETS, params=params)
    assert response.status_code == 200, response.text
    return ids(response.json()["items"])


async def asked(service: Service, **body: Any) -> str:
    return str((await service.pictures(**body))["asset_id"])


async def asset_of(service: Service, asset_id: str) -> dict[str, Any]:
    return dict((await service.client.get(f"{ASSETS}{asset_id}")).json())


async def change(service: Service, asset_id: str, **body: Any) -> dict[str, Any]:
    response = await service.client.patch(f"{ASSETS}{asset_id}", json=body)
    assert response.status_code == 200, response.text
    return dict(response.json())


# ---- found ---------------------------------------------------------------------------------------------------------


async def test_a_prompt_is_found_by_its_words_in_any_order_and_case(any_service: Service) -> None:
    cat = await asked(any_service, prompt="A photo of a Grey CAT, sleeping (ohwx:1.2)", negative_prompt="blurred dog")
    dog = await asked(any_service, prompt="a dog's photo – größer")
    both = [dog, cat]
    for text, expected in (
        ("photo", both),
        ("cat grey", [cat]),
        ("Grey c", [cat]),
        ("GRÖSSER", [dog]),
        ("ohwx 1.2", [cat]),
        ("at", []),
        ("dog", [dog]),
        ("cat dog", []),
        ("%", []),
        ("!!!", []),
        ("'pcat' | pdog:*", []),
        ("photo " * 83, both),
        (" ".join(f"{n}" for n in range(130)), []),
    ):
        assert await found(any_service, prompt=text) == expected, text


async def test_a_search_looks_in_prompts_tags_and_the_name_of_the_workflow(any_service: Service) -> None:
    first = await asked(any_service, prompt="a cat", negative_prompt="blurred", true_cfg_scale=2.0)
    second = await asked(any_service, prompt="a dog")
    await change(any_service, second, tags=["Summer 2026", "🔥"])
    for text, expected in (
        ("blur", [first]),
        ("summer", [second]),
        ("dog 2026", [second]),
        ("cat summer", []),
        ("text to image", [second, first]),
    ):
        assert await found(any_service, search=text) == expected, text
    for tag, expected in (("Summer 2026", [second]), ("🔥", [second]), ("summer 2026", []), ("Summer", [])):
        assert await found(any_service, tag=tag) == expected, tag


async def test_a_picture_is_found_by_seed_workflow_base_model_and_time(any_service: Service) -> None:
    seven, eight = (await any_service.pictures(seed=7, num_images=2, base_model="flux-tiny"))["asset_ids"]
    other = await asked(any_service, seed=8)
    assert await found(any_service, seed=8) == [other, eight]
    assert await found(any_service, seed=2**53 - 1) == []
    assert await found(any_service, workflow="flux_text_to_image") == [other, eight, seven]
    assert await found(any_service, workflow="flux_upscale") == []
    assert await found(any_service, base_model="flux-tiny") == [eight, seven]
    assert await found(any_service, base_model="flux") == []
    moment = (await asset_of(any_service, eight))["created_at"]
    assert await found(any_service, created_after=moment) == [other, eight]
    assert await found(any_service, created_before=moment) == [seven]
    later = datetime.fromisoformat(moment) + timedelta(hours=2)
    assert await found(any_service, created_after=moment, created_before=later.isoformat(), seed=7) == []
    naive = datetime.fromisoformat(moment).replace(tzinfo=None).isoformat()
    assert await found(any_service, created_after=naive) == [other, eight]


async def test_a_batch_is_listed_without_what_was_deleted_of_it(any_service: Service) -> None:
    await asked(any_service)
    batch = await any_service.pictures(num_images=3)
    for asset_id in batch["asset_ids"]:
        await any_service.client.post(f"{ASSETS}{asset_id}/cancel")
    first, *rest = batch["asset_ids"]
    await any_service.client.delete(f"{ASSETS}{first}")
    assert await found(any_service, batch_id=batch["batch_id"]) == rest[::-1]
    assert await found(any_service, batch_id=NOBODY) == []
    told = (await any_service.client.get(f"/api/batches/{batch['batch_id']}")).json()
    assert sum(told["counts"].values()) == 2


async def test_a_lora_finds_the_pictures_that_have_it_anywhere_in_their_stack(any_service: Service) -> None:
    first, second = await any_service.model(name="a"), await any_service.model(name="b", rank=8)
    stack = [{"model_id": model["id"]} for model in (first, second)]
    both = await asked(any_service, base_model="flux-tiny", loras=stack)
    alone = await asked(any_service, base_model="flux-tiny", model_id=second["id"])
    assert await found(any_service, model_id=first["id"]) == [both]
    assert await found(any_service, model_id=second["id"]) == [alone, both]
    assert await found(any_service, model_id=NOBODY) == []


async def test_pages_of_what_was_searched_for_hold_each_once(any_service: Service) -> None:
    wanted = (await any_service.pictures(prompt="a cat", num_images=7))["asset_ids"][::-1]
    await any_service.pictures(prompt="a dog", num_images=3)
    got: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        body = (await any_service.client.get(ASSETS, params={"prompt": "cat", "limit": 3, **cursor})).json()
        got += ids(body["items"])
        if body["next_cursor"] is None:
            break
        cursor = {"cursor": body["next_cursor"]}
    assert got == wanted


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seed", "-1"),
        ("seed", str(2**53)),
        ("seed", "x"),
        ("workflow", "../x"),
        ("base_model", "a\x00b"),
        ("prompt", "a\x00b"),
        ("search", "x" * 501),
        ("tag", "x" * 51),
        ("tag", "a\nb"),
        ("favourite", "maybe"),
        ("created_after", "yesterday"),
        ("created_before", "0001-01-01T00:00:00+23:00"),
        ("deleted", "2"),
    ],
)
async def test_a_filter_that_is_none_is_refused_by_name(service: Service, name: str, value: str) -> None:
    problem = assert_problem(await service.client.get(ASSETS, params={name: value}), 422, "validation_failed")
    assert problem["errors"][0]["loc"] == ["query", name]


# ---- marked --------------------------------------------------------------------------------------------------------


async def test_favourites_and_tags_change_what_is_given_and_nothing_else(any_service: Service) -> None:
    plain, marked = (await any_service.pictures(num_images=2))["asset_ids"]
    before = await asset_of(any_service, marked)
    assert (before["favourite"], before["tags"]) == (False, [])
    await change(any_service, marked, tags=["b", "a", "b", " c "])
    after = await change(any_service, marked, favourite=True)
    assert after == {**before, "favourite": True, "tags": ["b", "a", "c"]}
    assert await change(any_service, marked) == after
    assert await found(any_service, favourite=True) == [marked]
    assert await found(any_service, favourite=False) == [plain]
    await change(any_service, marked, tags=[], favourite=False)
    assert await found(any_service, tag="a") == await found(any_service, search="a b") == []
    assert await asset_of(any_service, marked) == before


@pytest.mark.parametrize(
    "body",
    [
        {"tags": [""]},
        {"tags": ["x" * 51]},
        {"tags": ["a\nb"]},
        {"tags": ["a\x00"]},
        {"tags": [str(n) for n in range(51)]},
        {"tags": "a"},
        {"favourite": "yes"},
        {"prompt": "another"},
    ],
)
async def test_a_mark_that_is_none_changes_nothing(service: Service, body: dict[str, Any]) -> None:
    asset_id = await asked(service)
    before = await asset_of(service, asset_id)
    response = await service.client.patch(f"{ASSETS}{asset_id}", json={"favourite": True, **body})
    assert_problem(response, 422, "validation_failed")
    assert await asset_of(service, asset_id) == before


async def test_marks_outlive_the_end_of_the_job(service: Service, tmp_path: Path) -> None:
    asset_id = await asked(service, prompt="a cat")
    await change(service, asset_id, favourite=True, tags=["mine"])
    await service.complete(await service.claim())
    asset = await asset_of(service, asset_id)
    assert (asset["status"], asset["favourite"], asset["tags"]) == ("completed", True, ["mine"])
    assert await found(service, search="cat mine", status="completed") == [asset_id]


# ---- deleted and restored --------------------------------------------------------------------------------------------


async def test_what_is_deleted_is_found_nowhere_else_and_comes_back_whole(any_service: Service, tmp_path: Path) -> None:
    asset_id = await finished(any_service, tmp_path, prompt="a cat")
    path = f"{ASSETS}{asset_id}"
    before = (await any_service.client.get(path)).json()
    assert (await any_service.client.delete(path)).status_code == 204
    await any_service.remove_leftovers()

    assert_problem(await any_service.client.delete(path), 404, "asset_not_found")
    for hidden in (path, f"{path}/file", f"{path}/thumbnail", f"{path}/recreate", f"/api/progress/stream/{asset_id}"):
        assert (await any_service.client.get(hidden)).status_code == 404, hidden
    assert "restore" in (await any_service.client.get(path)).json()["hint"]
    assert_problem(await any_service.client.patch(path, json={"favourite": True}), 404, "asset_not_found")
    assert await found(any_service) == await found(any_service, prompt="cat") == []
    (listed,) = (await any_service.client.get(ASSETS, params={"deleted": True})).json()["items"]
    assert (listed["id"], listed["deleted_at"] is not None) == (asset_id, True)
    assert await found(any_service, deleted=True, prompt="cat") == [asset_id]

    for _ in range(2):
        assert (await any_service.client.post(f"{path}/restore")).json() == before
    assert await found(any_service) == [asset_id]
    assert await found(any_service, deleted=True) == []
    assert (await any_service.client.get(f"{path}/file")).status_code in (200, 307)


async def test_a_restore_with_one_key_is_done_once(service: Service, tmp_path: Path) -> None:
    path = f"{ASSETS}{await finished(service, tmp_path)}"
    await service.client.delete(path)
    headers = {"Idempotency-Key": "again"}
    first = await service.client.post(f"{path}/restore", headers=headers)
    await service.client.delete(path)
    again = await service.client.post(f"{path}/restore", headers=headers)
    assert (again.json(), again.headers["Idempotency-Replayed"]) == (first.json(), "true")
    assert await found(service) == []


async def test_nothing_starts_from_a_deleted_picture(service: Service, tmp_path: Path) -> None:
    asset_id = await finished(service, tmp_path)
    await service.client.delete(f"{ASSETS}{asset_id}")
    run = {"parameters": {"image": asset_id, "prompt": "a photo"}}
    response = await service.client.post("/api/workflows/flux_image_to_image/run", json=run)
    assert assert_problem(response, 422, "validation_failed")["errors"][0]["type"] == "input_not_found"


async def test_a_deleted_picture_that_failed_is_not_retried_until_it_is_restored(service: Service) -> None:
    asset_id = await asked(service)
    task_id = (await asset_of(service, asset_id))["task_id"]
    await service.fail(await service.claim(), EngineError("It failed."))
    await service.client.delete(f"{ASSETS}{asset_id}")
    assert_problem(await service.client.post(f"/api/jobs/{task_id}/retry"), 409, "job_superseded")
    await service.client.post(f"{ASSETS}{asset_id}/restore")
    assert (await service.client.post(f"/api/jobs/{task_id}/retry")).status_code == 201


async def deleted_days_ago(service: Service, asset_id: str, days: float) -> None:
    await service.client.delete(f"{ASSETS}{asset_id}")
    async with service.resources.sessions.begin() as session:
        its = sa.update(GeneratedAsset).where(col(GeneratedAsset.id) == UUID(asset_id))
        await session.execute(its.values(deleted_at=utcnow() - timedelta(days=days)))


async def test_after_its_days_a_deleted_picture_goes_with_file_and_thumbnails(
    any_service: Service, tmp_path: Path
) -> None:
    kept, recent, old = [await finished(any_service, tmp_path) for _ in range(3)]
    for asset_id in (recent, old):
        assert (await any_service.client.get(f"{ASSETS}{asset_id}/thumbnail")).status_code in (200, 307)
    async with any_service.resources.sessions() as session:
        rows = [
            (await session.get_one(GeneratedAsset, UUID(asset_id))).storage_path for asset_id in (kept, recent, old)
        ]
        small = {str(row.asset_id): row.storage_path for row in await session.scalars(sa.select(Thumbnail))}
    days = any_service.settings.masuka_trash_days
    await deleted_days_ago(any_service, recent, days - 0.1)
    await deleted_days_ago(any_service, old, days + 0.1)

    await purge_assets(any_service.resources)
    await any_service.remove_leftovers()

    sizes = [await any_service.resources.storage.size(key or "") for key in (*rows, small[recent], small[old])]
    assert [size is not None for size in sizes] == [True, True, False, True, False]
    assert await found(any_service) == [kept]
    assert await found(any_service, deleted=True) == [recent]
    assert_problem(await any_service.client.post(f"{ASSETS}{old}/restore"), 404, "asset_not_found")
    assert (await any_service.traces())["unrecorded_file"] == 0


async def test_a_picture_is_not_purged_while_a_retry_starts_from_it(service: Service, tmp_path: Path) -> None:
    start = await finished(service, tmp_path)
    run = {"parameters": {"image": start, "prompt": "a photo"}}
    started = (await service.client.post("/api/workflows/flux_image_to_image/run", json=run)).json()
    await service.fail(await service.claim(), EngineError("It failed."))
    await deleted_days_ago(service, start, 1000)
    assert (await service.client.post(f"/api/jobs/{started['task_id']}/retry")).status_code == 201
    await purge_assets(service.resources)
    assert await found(service, deleted=True) == [start]
    await service.client.post(f"{ASSETS}{started['asset_id']}/cancel")
    await purge_assets(service.resources)
    assert await found(service, deleted=True) == []


# ---- asked for again --------------------------------------------------------------------------------------------


async def recreated(service: Service, asset_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The request for it, and the asset that this request gives."""
    request = (await service.client.get(f"{ASSETS}{asset_id}/recreate")).json()
    response = await service.client.request(request["method"], request["path"], json=request["body"])
    assert response.status_code == 202, response.text
    return request, await asset_of(service, response.json()["asset_id"])


@pytest.mark.parametrize("add_trigger_words", [True, False])
async def test_the_request_for_a_picture_gives_all_that_made_it(service: Service, add_trigger_words: bool) -> None:
    first = await service.model(name="a", trigger_word="ohwx")
    second = await service.model(name="b", rank=8, trigger_word="sks")
    asset_id = await asked(
        service,
        prompt="a sks dog",
        negative_prompt="blur",
        true_cfg_scale=2.5,
        guidance_scale=4.5,
        num_inference_steps=9,
        width=64,
        height=96,
        model_id=first["id"],
        lora_scale=-0.5,
        loras=[{"model_id": second["id"], "scale": 1.5}],
        add_trigger_words=add_trigger_words,
    )
    asset = await asset_of(service, asset_id)
    request, again = await recreated(service, asset_id)
    assert request["body"]["parameters"]["seed"] == asset["seed"]
    for same in ("prompt", "negative_prompt", "generation_config", "model_id", "seed"):
        assert again[same] == asset[same], same
    assert request["warnings"] == []


async def test_a_picture_that_started_from_another_starts_from_it_again(service: Service, tmp_path: Path) -> None:
    start = await finished(service, tmp_path)
    run = {"parameters": {"image": start, "prompt": "a photo", "denoise": 0.4}}
    response = await service.client.post("/api/workflows/flux_image_to_image/run", json=run)
    asset = await asset_of(service, response.json()["asset_id"])
    _, again = await recreated(service, asset["id"])
    assert again["generation_config"] == asset["generation_config"]


async def test_a_workflow_and_a_lora_that_are_gone_are_named(service: Service) -> None:
    graph = (await service.client.get("/api/workflows/flux_text_to_image")).json()["graph"]
    own = {"name": "mine", "graph": graph}
    assert (await service.client.post("/api/workflows/", json=own)).status_code == 201
    model = await service.model()
    asset_id = await asked(service, workflow="mine", model_id=model["id"])
    await recreated(service, asset_id)
    for _ in range(2):
        await service.fail(await service.claim(), EngineError("It failed."))
    await service.client.delete("/api/workflows/mine")
    assert (await service.client.post("/api/workflows/", json=own)).status_code == 201  # another, of that name
    assert (await service.client.delete(f"/api/models/{model['id']}")).status_code == 204
    response = await service.client.get(f"{ASSETS}{asset_id}/recreate")
    problem = assert_problem(response, 409, "asset_not_recreatable")
    assert problem["value"] == "workflow mine"
    assert model["file_name"] in problem["detail"]


async def test_a_lora_whose_words_have_changed_is_sent_what_it_was_sent(service: Service) -> None:
    model = await service.model(trigger_word="ohwx")
    asset_id = await asked(service, prompt="a dog", model_id=model["id"])
    async with service.resources.sessions.begin() as session:
        await session.execute(sa.text("UPDATE model SET trigger_word = 'sks'"))
    request, again = await recreated(service, asset_id)
    assert request["body"]["add_trigger_words"] is False
    assert again["generation_config"]["prompt_sent"] == "ohwx, a dog"


async def test_a_picture_that_was_drawn_by_hand_is_found_but_has_no_request(service: Service) -> None:
    config = {"source": "canvas", "loras": [{"file": "x.safetensors", "scale": 1.0}], "seed": 2**64 - 1}
    async with service.resources.sessions.begin() as session:
        asset = GeneratedAsset(prompt="by hand", generation_config=config)
        await jobs.add_done(session, asset)
    assert await found(service, prompt="hand") == [str(asset.id)]
    response = await service.client.get(f"{ASSETS}{asset.id}/recreate")
    assert "by hand" in assert_problem(response, 409, "asset_not_recreatable")["detail"]
