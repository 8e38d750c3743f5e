"""`?wait=N`: the result in the answer if it is there in time, the picture itself for who accepts one."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from api.errors import EngineError
from api.models import GeneratedAsset
from api.routes.wait import prefers_png
from tests.service import Service, assert_problem, png
from tests.waiting import until_async

PNG = {"Accept": "image/png"}
PATH = "/api/generate/image"
BODY: dict[str, Any] = {"prompt": "a photo", "seed": 5}


async def _pending(service: Service) -> bool:
    jobs = (await service.client.get("/api/jobs/", params={"status": "pending"})).json()["items"]
    return bool(jobs)


@asynccontextmanager
async def _worker(service: Service, tmp_path: Path, *, fails: bool = False, pictures: int = 1) -> AsyncIterator[None]:
    """Finishes pictures as soon as they are asked for."""

    async def work() -> None:
        for _ in range(pictures):
            await one()

    async def one() -> None:
        await until_async(lambda: _pending(service))
        lease = await service.claim()
        if fails:
            await service.fail(lease, EngineError("No memory.", code="out_of_memory", hint="Less."))
            return
        source = tmp_path / "made.png"
        source.write_bytes(png(5))
        async with service.resources.sessions.begin() as session:
            found = await session.scalars(sa.select(GeneratedAsset).where(sa.column("task_id") == lease.job_id))
            asset = found.one()
            stored = await service.resources.storage.put_file(f"assets/{asset.id}.png", source)
            asset.storage_path = stored.key
        await service.complete(lease)

    await service.pulse("flux-dev", "flux-tiny")
    working = asyncio.create_task(work())
    try:
        yield
    finally:
        await working


async def _ask(service: Service, wait: float = 20, **options: Any) -> httpx.Response:
    return await service.client.post(PATH, params={"wait": wait}, **{"json": BODY, **options})


async def test_who_waits_gets_the_result(any_service: Service, tmp_path: Path) -> None:
    async with _worker(any_service, tmp_path):
        response = await _ask(any_service)
    assert response.status_code == 200, response.text
    body = response.json()
    assert (body["status"], body["assets"][0]["status"], body["seed"]) == ("completed", "completed", 5)
    assert body["assets"][0]["id"] == body["asset_id"]


async def test_what_takes_longer_is_answered_as_ever_and_goes_on(service: Service) -> None:
    await service.pulse("flux-dev")
    response = await _ask(service, 0.05)
    assert (response.status_code, response.json()["status"]) == (202, "pending")
    assert await _pending(service)


async def test_who_accepts_a_png_gets_its_bytes(any_service: Service, tmp_path: Path) -> None:
    async with _worker(any_service, tmp_path):
        response = await _ask(any_service, headers=PNG)
    assert (response.status_code, response.headers["content-type"]) == (200, "image/png"), response.text
    assert response.content == png(5)
    assert response.headers["content-length"] == str(len(response.content))
    asset = await any_service.client.get(response.headers["content-location"].removesuffix("/file"))
    assert asset.json()["status"] == "completed"


async def test_a_picture_that_is_not_there_in_time_is_answered_as_json(service: Service) -> None:
    await service.pulse("flux-dev")
    response = await _ask(service, 0.05, headers=PNG)
    assert (response.status_code, response.headers["content-type"]) == (202, "application/json")
    assert (await service.client.post(PATH, json=BODY, headers=PNG)).status_code == 202


async def test_a_failure_is_the_result_or_a_problem_for_who_wants_bytes(service: Service, tmp_path: Path) -> None:
    async with _worker(service, tmp_path, fails=True):
        response = await _ask(service)
    assert (response.status_code, response.json()["status"]) == (200, "failed")
    assert response.json()["assets"][0]["error_message"] == "No memory."
    async with _worker(service, tmp_path, fails=True):
        response = await _ask(service, headers=PNG)
    assert assert_problem(response, 409, "out_of_memory")["hint"] == "Less."


async def test_a_cancelled_picture_has_no_bytes(service: Service) -> None:
    await service.pulse("flux-dev")
    asking = asyncio.create_task(_ask(service, headers=PNG))
    await until_async(lambda: _pending(service))
    (asset,) = (await service.client.get("/api/assets/")).json()["items"]
    await service.client.post(f"/api/assets/{asset['id']}/cancel")
    assert_problem(await asking, 409, "picture_cancelled")


async def test_a_repetition_waits_for_the_first_picture_and_draws_none(service: Service, tmp_path: Path) -> None:
    key = {"Idempotency-Key": "once"}
    await service.pulse("flux-dev")
    assert (await _ask(service, 0, headers=key)).status_code == 202
    async with _worker(service, tmp_path):
        response = await _ask(service, headers={**key, **PNG})
    assert (response.status_code, response.content) == (200, png(5))
    assert response.headers["idempotency-replayed"] == "true"
    assert (await service.traces())["generated_asset"] == 1


async def test_several_pictures_are_waited_for_together_and_are_no_single_file(
    service: Service, tmp_path: Path
) -> None:
    await service.pulse("flux-dev")
    before = await service.traces()
    response = await _ask(service, headers=PNG, json={**BODY, "num_images": 2})
    assert_problem(response, 422, "one_picture_only")
    assert await service.traces() == before
    async with _worker(service, tmp_path, pictures=2):
        response = await _ask(service, json={**BODY, "num_images": 2})
    assert (response.status_code, len(response.json()["assets"])) == (200, 2)


async def test_a_refused_request_is_refused_at_once(service: Service) -> None:
    response = await _ask(service, headers={"Idempotency-Key": "no"}, json={**BODY, "workflow": "nothing"})
    assert_problem(response, 422, "workflow_unknown")
    response = await _ask(service, headers={"Idempotency-Key": "no"}, json={**BODY, "workflow": "nothing"})
    assert_problem(response, 422, "workflow_unknown")


@pytest.mark.parametrize("wait", ["61", "-1", "nan", "inf", "soon"])
async def test_nobody_waits_longer_than_a_minute(service: Service, wait: str) -> None:
    response = await service.client.post(PATH, params={"wait": wait}, json=BODY)
    assert_problem(response, 422, "validation_failed")


async def test_a_workflow_by_name_is_waited_for_too(service: Service, tmp_path: Path) -> None:
    run = {"parameters": {"prompt": "a photo", "seed": 5}}
    async with _worker(service, tmp_path):
        path = "/api/workflows/flux_text_to_image/run"
        response = await service.client.post(path, params={"wait": 20}, json=run, headers=PNG)
    assert (response.status_code, response.content) == (200, png(5))


@pytest.mark.parametrize(
    ("accept", "png"),
    [
        ("image/png", True),
        ("image/png, application/problem+json", True),
        ("application/json, image/png", True),
        ("image/*;q=0.5, application/json;q=0.4", True),
        ("image/png;q=0.1, application/json", False),
        ("image/png;q=0", False),
        ("*/*", False),
        ("application/json", False),
        ("", False),
        ("image/png;q=much", True),
        (";;,,=", False),
    ],
)
def test_png_is_sent_to_those_who_name_it(accept: str, png: bool) -> None:
    assert prefers_png(accept) is png
