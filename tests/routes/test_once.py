"""`Idempotency-Key` on every POST: the work is done once, and its answer is given again."""

import asyncio
from typing import Any

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from api.errors import EngineError
from api.services import generation
from api.settings import Settings
from tests.service import NOBODY, Service, assert_problem, png, serving, tiny_lora

KEY = {"Idempotency-Key": "one"}
GENERATE = "/api/generate/image"
BODY = {"prompt": "x", "base_model": "flux-tiny"}


async def _jobs(service: Service) -> int:
    return len((await service.client.get("/api/jobs/")).json()["items"])


async def _asset(service: Service, asset_id: str) -> dict[str, Any]:
    return dict((await service.client.get(f"/api/assets/{asset_id}")).json())


def _routes(service: Service) -> list[dict[str, Any]]:
    paths = service.app.openapi()["paths"]
    return [item["post"] for item in paths.values() if "post" in item]


async def test_every_post_takes_a_key(service: Service) -> None:
    routes = _routes(service)
    assert len(routes) >= 8
    for route in routes:
        assert "Idempotency-Key" in [parameter["name"] for parameter in route["parameters"]]


async def test_a_repeated_picture_is_made_once(any_service: Service) -> None:
    await any_service.pulse("flux-tiny")
    first = await any_service.client.post(GENERATE, json=BODY, headers=KEY)
    again = await any_service.client.post(GENERATE, json=BODY, headers=KEY)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert ("Idempotency-Replayed" in first.headers, again.headers["Idempotency-Replayed"]) == (False, "true")
    assert await _jobs(any_service) == 1


async def test_without_a_key_every_request_is_new(service: Service) -> None:
    await service.pulse("flux-tiny")
    for _ in range(2):
        assert (await service.client.post(GENERATE, json=BODY)).status_code == 202
    assert await _jobs(service) == 2


async def test_of_many_at_once_one_is_done(any_service: Service) -> None:
    await any_service.pulse("flux-tiny")
    answers = await asyncio.gather(*(any_service.client.post(GENERATE, json=BODY, headers=KEY) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["asset_id"] for answer in answers}) == 1
    assert await _jobs(any_service) == 1


async def test_a_repetition_is_known_after_a_restart(service_settings: Settings) -> None:
    async with serving(service_settings) as service:
        await service.pulse("flux-tiny")
        first = await service.client.post(GENERATE, json=BODY, headers=KEY)
    async with serving(service_settings) as service:
        assert (await service.client.post(GENERATE, json=BODY, headers=KEY)).json() == first.json()
        assert await _jobs(service) == 1


async def test_a_refusal_is_repeated_even_when_it_would_now_succeed(any_service: Service) -> None:
    model = await any_service.model()
    await any_service.pulse("flux-tiny")
    answer = await any_service.pictures(model_id=model["id"])
    path = f"/api/jobs/{answer['task_id']}/retry"
    first = await any_service.client.post(path, headers=KEY)
    assert_problem(first, 409, "job_not_retryable")
    await any_service.fail(await any_service.claim(), EngineError("It failed."))
    again = await any_service.client.post(path, headers=KEY)
    assert_problem(again, 409, "job_not_retryable")
    assert (again.json(), again.headers["Idempotency-Replayed"]) == (first.json(), "true")
    assert (await any_service.client.post(path, headers={"Idempotency-Key": "two"})).status_code == 201


async def test_a_key_used_for_another_request_is_refused(service: Service) -> None:
    await service.pulse("flux-tiny")
    await service.client.post(GENERATE, json=BODY, headers=KEY)
    for path, body in ((GENERATE, {**BODY, "prompt": "y"}), ("/api/training/flux", {"dataset_id": NOBODY})):
        problem = assert_problem(await service.client.post(path, json=body, headers=KEY), 409, "idempotency_key_reused")
        assert problem["value"] == "one"
    assert await _jobs(service) == 1


async def test_the_same_request_written_otherwise_is_the_same(service: Service) -> None:
    await service.pulse("flux-tiny")
    first = await service.client.post(GENERATE, json=BODY, headers=KEY)
    spelled_out = {"base_model": "flux-tiny", "seed": None, "width": 1024, "prompt": "x"}
    assert (await service.client.post(GENERATE, json=spelled_out, headers=KEY)).json() == first.json()


async def test_a_part_that_was_away_is_asked_again(service: Service) -> None:
    await service.pulse("flux-dev")
    response = await service.client.post(GENERATE, json=BODY, headers=KEY)
    assert_problem(response, 503, "base_model_not_installed")
    await service.pulse("flux-tiny")
    assert (await service.client.post(GENERATE, json=BODY, headers=KEY)).status_code == 202


async def test_a_crash_is_not_kept(service_settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def crash(*_: object) -> None:
        raise RuntimeError("a bug")

    async with serving(service_settings, raise_app_exceptions=False) as service:
        await service.pulse("flux-tiny")
        with monkeypatch.context() as patched:
            patched.setattr(generation, "submit", crash)
            patched.setattr("api.routes.problems.log.error", lambda *_, **__: None)
            response = await service.client.post(GENERATE, json=BODY, headers=KEY)
            assert_problem(response, 500, "internal_error")
        assert (await service.client.post(GENERATE, json=BODY, headers=KEY)).status_code == 202
        assert await _jobs(service) == 1


async def test_a_commit_that_fails_lets_go_of_the_key(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_: AsyncSession) -> None:
        raise OperationalError("COMMIT", {}, Exception("disk I/O error"))

    await service.pulse("flux-tiny")
    with monkeypatch.context() as patched:
        patched.setattr(AsyncSession, "commit", fail)
        response = await service.client.post(GENERATE, json=BODY, headers=KEY)
        assert_problem(response, 503, "database_unavailable")
    assert (await service.client.post(GENERATE, json=BODY, headers=KEY)).status_code == 202
    assert await _jobs(service) == 1


async def test_a_repeated_upload_is_kept_once_and_known_by_its_bytes(any_service: Service) -> None:
    first = await any_service.upload({"a.png": png()}, name="me", key="up")
    kept = await any_service.traces()
    again = await any_service.upload({"a.png": png()}, name="me", key="up")
    assert (again.status_code, again.json()) == (201, first.json())
    for files, name in (({"a.png": png(1)}, "me"), ({"b.png": png()}, "me"), ({"a.png": png()}, "you")):
        response = await any_service.upload(files, name=name, key="up")
        assert_problem(response, 409, "idempotency_key_reused")
    assert await any_service.traces() == kept


async def test_uploads_at_once_that_differ_in_their_boundary_are_one(any_service: Service) -> None:
    def form(boundary: str) -> bytes:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="name"\r\n\r\nme\r\n--{boundary}\r\n'
        file = 'Content-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        return (head + file).encode() + png() + f"\r\n--{boundary}--\r\n".encode()

    async def upload(boundary: str) -> dict[str, Any]:
        headers = {**KEY, "Content-Type": f"multipart/form-data; boundary={boundary}"}
        response = await any_service.client.post("/api/datasets/", content=form(boundary), headers=headers)
        assert response.status_code == 201, response.text
        return dict(response.json())

    answers = await asyncio.gather(*(upload(f"boundary-{n}") for n in range(8)))
    assert all(answer == answers[0] for answer in answers)
    assert (await any_service.traces())["dataset"] == 1


async def test_a_repeated_upload_without_a_usable_picture_says_why_again(service: Service) -> None:
    first = await service.upload({"a.png": b"no"}, name="me", key="up")
    again = await service.upload({"a.png": b"no"}, name="me", key="up")
    assert_problem(again, 422, "no_usable_images")
    assert again.json() == first.json()


async def test_a_repeated_import_is_kept_once(service: Service) -> None:
    first = await service.import_lora(tiny_lora(), key="lora")
    again = await service.import_lora(tiny_lora(), key="lora")
    assert (again.status_code, again.json()) == (201, first.json())
    assert (await service.traces())["model"] == 1
    assert_problem(await service.import_lora(tiny_lora(rank=8), key="lora"), 409, "idempotency_key_reused")
    assert_problem(await service.import_lora(tiny_lora(), key="lora", name="you"), 409, "idempotency_key_reused")


async def test_retries_at_once_are_one_that_asks_exactly_what_the_first_try_asked(any_service: Service) -> None:
    wishes = {"seed": 5, "num_inference_steps": 7, "width": 512, "height": 768, "guidance_scale": 2.0}
    picture = await any_service.pictures(**wishes)
    await any_service.fail(await any_service.claim(), EngineError("It failed."))
    failed = await _asset(any_service, picture["asset_id"])

    path = f"/api/jobs/{picture['task_id']}/retry"
    answers = await asyncio.gather(*(any_service.client.post(path, headers=KEY) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert await _jobs(any_service) == 2

    retried = await _asset(any_service, picture["asset_id"])
    for name in ("id", "model_id", "prompt", "negative_prompt", "generation_config", "created_at"):
        assert retried[name] == failed[name]
    assert retried["generation_config"].items() >= wishes.items()


async def test_a_repeated_training_cancel_and_retry_are_done_once(service: Service) -> None:
    await service.pulse("flux-dev")
    dataset = await service.dataset()
    body = {"dataset_id": dataset["id"]}
    first = [await service.client.post("/api/training/flux", json=body, headers=KEY) for _ in range(2)]
    assert first[0].json() == first[1].json()
    training = first[0].json()
    for number, (path, status) in enumerate(
        (
            (f"/api/training/{training['id']}/cancel", 200),
            (f"/api/jobs/{training['task_id']}/cancel", 200),
            (f"/api/jobs/{training['task_id']}/retry", 201),
        )
    ):
        key = {"Idempotency-Key": f"key-{number}"}
        answers = [await service.client.post(path, headers=key) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [status, status]
        assert answers[0].json() == answers[1].json()
    assert await _jobs(service) == 2
