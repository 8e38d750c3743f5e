"""`/api/generate/sweep` and `/api/batches`: many pictures as one thing."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from PIL import Image
from sqlalchemy.engine import Engine

from api.errors import EngineError
from api.models import GeneratedAsset
from api.routes import batch_progress
from api.services import jobs
from tests.service import NOBODY, Service, assert_problem, ids, png, tiny_lora


async def _sweep(service: Service, *, key: str | None = None, **body: Any) -> dict[str, Any]:
    await service.pulse("flux-dev", "flux-tiny")
    headers = {} if key is None else {"Idempotency-Key": key}
    body = {"prompts": ["a photo"], "width": 64, "height": 64, **body}
    response = await service.client.post("/api/generate/sweep", json=body, headers=headers)
    assert response.status_code == 202, response.text
    return dict(response.json())


async def _batch(service: Service, batch_id: str) -> dict[str, Any]:
    response = await service.client.get(f"/api/batches/{batch_id}")
    assert response.status_code == 200, response.text
    return dict(response.json())


async def _draw(service: Service, tmp_path: Path) -> str:
    """Be the worker: finish the next picture, in a colour of its own; its asset."""
    lease = await service.claim()
    async with service.resources.sessions.begin() as session:
        found = await session.scalars(sa.select(GeneratedAsset).where(sa.column("task_id") == lease.job_id))
        asset = found.one()
        source = tmp_path / "made.png"
        source.write_bytes(png(asset.generation_config["seed"]))
        stored = await service.resources.storage.put_file(f"assets/{asset.id}.png", source)
        asset.storage_path = stored.key
    await service.complete(lease)
    return str(asset.id)


@asynccontextmanager
async def _stream(service: Service, batch_id: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """The route's own generator: the in-process client would only see the whole body at its end."""
    events = batch_progress.follow(service.resources, UUID(batch_id))

    async def received() -> AsyncIterator[dict[str, Any]]:
        async for event in events:
            yield json.loads(str(event.data))

    try:
        yield received()
    finally:
        await events.aclose()


# ---- sweeps --------------------------------------------------------------------------------------------------------


async def test_a_sweep_is_every_combination_drawn_lora_by_lora(any_service: Service) -> None:
    first = await any_service.model(trigger_word="ohwx")
    second = (await any_service.import_lora(tiny_lora(rank=8), name="other")).json()
    answer = await _sweep(
        any_service,
        prompts=["a cat", "a dog"],
        seeds=[1, 2],
        models=[first["id"], None, second["id"]],
        scales=[0.5, 1.0],
    )
    batch = await _batch(any_service, answer["batch_id"])
    drawn = [(item["model_id"], item["scale"], item["prompt"], item["seed"]) for item in batch["items"]]
    variants = [(first["id"], 0.5), (first["id"], 1.0), (None, None), (second["id"], 0.5), (second["id"], 1.0)]
    assert drawn == [(*variant, p, s) for variant in variants for p in ("a cat", "a dog") for s in (1, 2)]
    assert [item["asset_id"] for item in batch["items"]] == answer["asset_ids"]
    assert (answer["task_id"], answer["seed"]) == (batch["items"][0]["task_id"], 1)
    claimed = [str((await any_service.claim()).job_id) for _ in drawn]
    assert claimed == [item["task_id"] for item in batch["items"]]

    asset = (await any_service.client.get(f"/api/assets/{answer['asset_ids'][0]}")).json()
    config = asset["generation_config"]
    assert (config["base_model"], config["seed"], config["prompt_sent"]) == ("flux-tiny", 1, "ohwx, a cat")
    assert [(lora["model_id"], lora["scale"]) for lora in config["loras"]] == [(first["id"], 0.5)]


async def test_base_models_are_switched_least(service: Service) -> None:
    tiny = await service.model()
    dev = (await service.import_lora(tiny_lora(rank=8), name="dev", base_model="flux-tiny")).json()
    async with service.resources.sessions.begin() as session:
        await session.execute(sa.text("UPDATE model SET base_model = 'flux-dev' WHERE name = 'dev'"))
    third = (await service.import_lora(tiny_lora(rank=6), name="third")).json()
    answer = await _sweep(service, models=[tiny["id"], dev["id"], third["id"], None], seeds=[1])
    items = (await _batch(service, answer["batch_id"]))["items"]
    assert [item["model_id"] for item in items] == [tiny["id"], third["id"], None, dev["id"]]


async def test_without_seeds_all_pictures_have_one_random_one(service: Service) -> None:
    answer = await _sweep(service, prompts=["a cat", "a dog"])
    seeds = {item["seed"] for item in (await _batch(service, answer["batch_id"]))["items"]}
    assert seeds == {answer["seed"]}


async def test_a_sweep_of_one_picture_is_a_batch_too(service: Service) -> None:
    answer = await _sweep(service, seeds=[5])
    assert (await _batch(service, answer["batch_id"]))["total"] == 1


async def test_500_pictures_are_one_transaction_of_few_statements(any_service: Service) -> None:
    model = await any_service.model()
    statements: list[str] = []

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    sa.event.listen(Engine, "before_cursor_execute", count)
    try:
        answer = await _sweep(
            any_service,
            prompts=[f"a cat {number}" for number in range(10)],
            seeds=list(range(10)),
            models=[model["id"]],
            scales=[0.2, 0.4, 0.6, 0.8, 1.0],
        )
    finally:
        sa.event.remove(Engine, "before_cursor_execute", count)
    assert len(answer["asset_ids"]) == len(set(answer["asset_ids"])) == 500
    assert len(statements) < 30, statements
    batch = await _batch(any_service, answer["batch_id"])
    assert (batch["total"], batch["counts"]["pending"], len(batch["items"])) == (500, 500, 500)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"seeds": list(range(501))}, 422, "validation_failed"),
        ({"seeds": list(range(167)), "prompts": ["a", "b", "c"]}, 422, "sweep_too_large"),
        ({"prompts": ["a", "a"]}, 422, "validation_failed"),
        ({"prompts": []}, 422, "validation_failed"),
        ({"scales": [2.5]}, 422, "validation_failed"),
        ({"seeds": [2**53]}, 422, "validation_failed"),
        ({"width": 100}, 422, "validation_failed"),
        ({"width": 4096}, 422, "size_too_large"),
        ({"workflow": "nothing"}, 422, "workflow_unknown"),
        ({"models": [NOBODY]}, 404, "model_not_found"),
        ({"base_model": "nothing"}, 422, None),
        ({"num_images": 2}, 422, "validation_failed"),
    ],
    ids=str,
)
async def test_a_sweep_that_cannot_be_drawn_leaves_nothing(
    service: Service, body: dict[str, Any], status: int, code: str | None
) -> None:
    await service.pulse("flux-dev", "flux-tiny")
    before = await service.traces()
    response = await service.client.post("/api/generate/sweep", json={"prompts": ["a photo"], **body})
    assert response.status_code == status, response.text
    assert code is None or response.json()["code"] == code
    assert await service.traces() == before


async def test_one_wrong_lora_of_many_leaves_nothing(service: Service) -> None:
    models = [(await service.model())["id"], NOBODY]
    before = await service.traces()
    await service.pulse("flux-tiny")
    body = {"prompts": ["a photo"], "models": models}
    assert_problem(await service.client.post("/api/generate/sweep", json=body), 404, "model_not_found")
    assert await service.traces() == before


async def test_a_repeated_sweep_is_the_first_one(any_service: Service) -> None:
    answers = await asyncio.gather(*(_sweep(any_service, key="again", seeds=[1, 2]) for _ in range(5)))
    assert all(answer == answers[0] for answer in answers)
    assert (await any_service.traces())["generated_asset"] == 2


# ---- batches -------------------------------------------------------------------------------------------------------


async def test_several_images_are_a_batch_and_a_single_one_is_none(service: Service) -> None:
    several = await service.pictures(num_images=3, seed=5)
    batch = await _batch(service, several["batch_id"])
    assert [item["seed"] for item in batch["items"]] == [5, 6, 7]
    assert batch["request"] == {"prompt": "a photo", "num_images": 3, "seed": 5}
    assert (await service.pictures())["batch_id"] is None
    run = {"parameters": {"prompt": "a photo", "seed": 1}, "num_images": 2}
    by_name = (await service.client.post("/api/workflows/flux_text_to_image/run", json=run)).json()
    assert (await _batch(service, by_name["batch_id"]))["request"] == {"workflow": "flux_text_to_image", **run}


async def test_batches_are_listed_newest_first_with_their_counts(any_service: Service) -> None:
    first, second = await _sweep(any_service, seeds=[1, 2]), await _sweep(any_service, seeds=[1, 2, 3])
    await any_service.fail(await any_service.claim(), EngineError("It failed."))
    page = (await any_service.client.get("/api/batches/", params={"limit": 1})).json()
    assert ids(page["items"]) == [second["batch_id"]]
    rest = (await any_service.client.get("/api/batches/", params={"cursor": page["next_cursor"]})).json()
    (older,) = rest["items"]
    assert (older["id"], older["status"], older["total"]) == (first["batch_id"], "generating", 2)
    assert older["counts"] == {"pending": 1, "generating": 0, "completed": 0, "failed": 1, "cancelled": 0}


async def test_a_batch_that_is_not_there_is_not_found(service: Service) -> None:
    for path in ("", "/sheet"):
        assert_problem(await service.client.get(f"/api/batches/{NOBODY}{path}"), 404, "batch_not_found")
    assert_problem(await service.client.post(f"/api/batches/{NOBODY}/cancel"), 404, "batch_not_found")


async def test_a_cancel_ends_what_waits_asks_what_runs_and_leaves_what_is_done(
    any_service: Service, tmp_path: Path
) -> None:
    answer, other = await _sweep(any_service, seeds=[1, 2, 3, 4]), await _sweep(any_service, seeds=[9])
    done = await _draw(any_service, tmp_path)
    running = await any_service.claim()
    path = f"/api/batches/{answer['batch_id']}/cancel"
    for _ in range(2):
        response = await any_service.client.post(path)
        assert response.status_code == 200, response.text
        statuses = [item["status"] for item in response.json()["items"]]
        assert statuses == ["completed", "generating", "cancelled", "cancelled"]
    assert response.json()["items"][0]["asset_id"] == done
    for item in response.json()["items"][2:]:
        job = (await any_service.client.get(f"/api/jobs/{item['task_id']}")).json()
        assert (job["status"], job["finished_at"] is None, job["cancel_requested_at"] is None) == (
            "cancelled",
            False,
            False,
        )
    async with any_service.resources.sessions.begin() as session:
        assert (await jobs.get(session, running.job_id)).cancel_requested_at is not None
        await jobs.cancel(session, running)
    batch = await _batch(any_service, answer["batch_id"])
    assert (batch["status"], batch["counts"]["cancelled"]) == ("cancelled", 3)
    assert (await _batch(any_service, other["batch_id"]))["status"] == "pending"


async def test_a_batch_that_is_done_cannot_be_cancelled(service: Service, tmp_path: Path) -> None:
    answer = await _sweep(service, seeds=[1])
    await _draw(service, tmp_path)
    response = await service.client.post(f"/api/batches/{answer['batch_id']}/cancel")
    assert_problem(response, 409, "batch_finished")


async def test_everyone_who_follows_a_cancelled_picture_hears_of_it(service: Service) -> None:
    answer = await _sweep(service, seeds=[1, 2])
    asset_id = answer["asset_ids"][1]
    job_id = UUID((await service.client.get(f"/api/assets/{asset_id}")).json()["task_id"])
    async with service.resources.progress.listen(job_id) as events:
        await service.client.post(f"/api/batches/{answer['batch_id']}/cancel")
        event = await asyncio.wait_for(events.get(), 5)
    assert json.loads(event.data)["status"] == "cancelled"


# ---- the stream ----------------------------------------------------------------------------------------------------


async def test_one_stream_tells_of_all_pictures_as_each_is_done(any_service: Service, tmp_path: Path) -> None:
    answer = await _sweep(any_service, seeds=[1, 2])
    async with _stream(any_service, answer["batch_id"]) as events:
        first = await anext(events)
        assert (first["status"], first["step"], first["total_steps"]) == ("pending", 0, 2)
        assert (first["queue_position"], first["message"]) == (1, "Waiting: next in the queue")
        assert [asset["asset_id"] for asset in first["assets"]] == answer["asset_ids"]
        done = await _draw(any_service, tmp_path)
        second = await anext(events)
        assert (second["status"], second["step"], second["progress"]) == ("generating", 1, 50.0)
        assert second["assets"] == [{"asset_id": done, "status": "completed", "progress": 100.0}]
        assert second["counts"]["completed"] == 1
        await any_service.fail(await any_service.claim(), EngineError("It failed."))
        rest = [event async for event in events]
    assert (rest[-1]["status"], rest[-1]["message"]) == ("failed", "2 of 2 pictures done, 1 failed")


async def test_the_stream_of_a_finished_batch_is_its_end_and_then_nothing_until_a_retry(
    service: Service, tmp_path: Path
) -> None:
    answer = await _sweep(service, seeds=[1, 2])
    await _draw(service, tmp_path)
    failed = await service.claim()
    await service.fail(failed, EngineError("It failed."))
    path = f"/api/progress/stream/{answer['batch_id']}"
    whole = await service.client.get(path)
    assert whole.headers["content-type"].startswith("text/event-stream")
    assert whole.text.count("data: ") == 1
    last = {"Last-Event-ID": f"end-{answer['batch_id']}"}
    assert (await service.client.get(path, headers=last)).status_code == 204
    retried = (await service.client.post(f"/api/jobs/{failed.job_id}/retry")).json()["id"]
    async with _stream(service, answer["batch_id"]) as events:
        assert (await anext(events))["status"] == "generating"
    await service.client.post(f"/api/jobs/{retried}/cancel")
    assert (await service.client.get(path, headers=last)).status_code == 204


async def test_a_batch_whose_events_are_lost_is_followed_to_its_end(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_progress, "LOOK_SECONDS", 0.02)
    answer = await _sweep(service, seeds=[1])
    lease = await service.claim()
    async with _stream(service, answer["batch_id"]) as events:
        await anext(events)
        async with service.resources.sessions.begin() as session:
            await jobs.complete(session, lease)
        assert [event["status"] async for event in events] == ["completed"]


# ---- the contact sheet ---------------------------------------------------------------------------------------------


async def test_the_contact_sheet_shows_what_is_drawn_beside_what_is_not(any_service: Service, tmp_path: Path) -> None:
    answer = await _sweep(any_service, prompts=["a cat", "a dog"], seeds=[1, 200])
    await _draw(any_service, tmp_path)
    response = await any_service.client.get(f"/api/batches/{answer['batch_id']}/sheet", params={"size": 64})
    assert (response.status_code, response.headers["content-type"]) == (200, "image/jpeg")
    with Image.open(io.BytesIO(response.content)) as sheet:
        assert sheet.format == "JPEG"
        before = sheet.convert("RGB").tobytes()
    await _draw(any_service, tmp_path)
    response = await any_service.client.get(f"/api/batches/{answer['batch_id']}/sheet", params={"size": 64})
    with Image.open(io.BytesIO(response.content)) as sheet:
        assert sheet.convert("RGB").tobytes() != before


async def test_a_sheet_without_any_picture_left_is_refused(service: Service) -> None:
    answer = await _sweep(service, seeds=[1])
    await service.client.post(f"/api/batches/{answer['batch_id']}/cancel")
    assert (await service.client.delete(f"/api/assets/{answer['asset_id']}")).status_code == 204
    response = await service.client.get(f"/api/batches/{answer['batch_id']}/sheet")
    assert_problem(response, 409, "batch_empty")


async def test_a_picture_whose_file_is_lost_does_not_spoil_the_sheet(service: Service, tmp_path: Path) -> None:
    answer = await _sweep(service, seeds=[1, 2])
    lost = await _draw(service, tmp_path)
    await service.resources.storage.delete(f"assets/{lost}.png")
    assert (await service.client.get(f"/api/batches/{answer['batch_id']}/sheet")).status_code == 200
