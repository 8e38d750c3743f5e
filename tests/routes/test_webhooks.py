"""Whom a request has told of its job's end, the log of that, and telling it again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from api.settings import Settings
from api.tasks.deliver import deliver_forever
from tests.receiver import SECRET, Receiver, Reply, receiving
from tests.service import Service, assert_problem, ids, serving, with_values
from tests.waiting import until_async

GENERATE, LOG = "/api/generate/image", "/api/webhooks/deliveries/"


@pytest.fixture(autouse=True)
def _signed(monkeypatch: pytest.MonkeyPatch, _clean_environment: None) -> None:
    """On every pair of back ends."""
    monkeypatch.setenv("MASUKA_WEBHOOK_SECRET", SECRET)
    monkeypatch.setenv("MASUKA_WEBHOOK_PRIVATE", "true")


@asynccontextmanager
async def delivering(service: Service) -> AsyncIterator[None]:
    task = asyncio.create_task(deliver_forever(service.resources))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


async def completed(service: Service, receiver: Receiver, **body: Any) -> dict[str, Any]:
    """A picture, told there, that is done."""
    made = await service.pictures(base_model="flux-tiny", webhook_url=receiver.url("me:hunter2@127.0.0.1"), **body)
    await service.complete(await service.claim())
    return made


async def deliveries(service: Service, **params: str) -> list[dict[str, Any]]:
    response = await service.client.get(LOG, params=params)
    assert response.status_code == 200, response.text
    assert "hunter2" not in response.text
    return list(response.json()["items"])


async def once_tried(service: Service) -> dict[str, Any]:
    """The newest delivery, when it has been tried."""

    async def done() -> bool:
        return (await deliveries(service))[0]["last"] is not None

    await until_async(done)
    return (await deliveries(service))[0]


# ---- the log -------------------------------------------------------------------------------------------------------


async def test_the_log_tells_what_was_said_to_whom_and_how_it_went(any_service: Service) -> None:
    async with receiving(Reply(503, body=b"busy")) as receiver, delivering(any_service):
        made = await completed(any_service, receiver)
        found = await once_tried(any_service)

    detail = (await any_service.client.get(LOG + found["id"])).json()
    assert found == {key: detail[key] for key in found}
    assert (found["job_id"], found["type"], found["status"]) == (made["task_id"], "image.completed", "pending")
    assert (found["receiver"], found["attempt"]) == (f"http://127.0.0.1:{receiver.port}", 1)
    assert (found["last"]["status_code"], found["last"]["answer"]) == (503, "busy")
    assert found["due_at"] > found["created_at"]
    assert detail["attempts"] == [found["last"]]
    assert detail["payload"] == receiver.got[0].verified()
    assert detail["payload"]["data"]["asset_id"] == made["asset_id"]
    assert "hunter2" not in str(detail)


async def test_it_can_be_told_again(any_service: Service) -> None:
    async with receiving(Reply(410), Reply(200)) as receiver, delivering(any_service):
        await completed(any_service, receiver)
        failed = await once_tried(any_service)
        assert (failed["status"], failed["due_at"]) == ("failed", None)

        key = {"Idempotency-Key": "again"}
        answers = [await any_service.client.post(f"{LOG}{failed['id']}/redeliver", headers=key) for _ in range(2)]

        assert {answer.status_code for answer in answers} == {202}
        assert answers[0].json()["status"] == "pending"
        await until_async(lambda: deliveries(any_service, status="delivered"))
    assert len({got.headers["webhook-id"] for got in receiver.got}) == 1
    assert len(receiver.got) == 2


async def test_the_log_is_filtered(service: Service) -> None:
    async with receiving() as receiver:
        picture = await completed(service, receiver)
        training = await service.training(base_model="flux-tiny", webhook_url=receiver.url())
        await service.client.post(f"/api/training/{training['id']}/cancel")

    found = {row["type"]: row["id"] for row in await deliveries(service)}
    assert set(found) == {"image.completed", "training.cancelled"}
    for params, name in (
        ({"job_id": picture["task_id"]}, "image.completed"),
        ({"type": "training.cancelled"}, "training.cancelled"),
    ):
        assert ids(await deliveries(service, **params)) == [found[name]]
    assert await deliveries(service, status="delivered") == []
    detail = (await service.client.get(LOG + found["training.cancelled"])).json()
    assert detail["payload"]["data"]["session_id"] == training["id"]


# ---- who is told ---------------------------------------------------------------------------------------------------


async def test_every_picture_of_a_request_is_told_of(service: Service) -> None:
    async with receiving() as receiver:
        made = await completed(service, receiver, num_images=2)
        await service.complete(await service.claim())

    told = [(await service.client.get(LOG + row["id"])).json()["payload"] for row in await deliveries(service)]
    assert {each["data"]["asset_id"] for each in told} == set(made["asset_ids"])


async def test_of_a_sweep_that_is_cancelled_every_picture_is_told_of_and_nothing_shows_whom(
    any_service: Service,
) -> None:
    await any_service.pulse("flux-tiny")
    body = {"prompts": ["a", "b"], "base_model": "flux-tiny", "webhook_url": "http://me:hunter2@127.0.0.1:1/"}
    sweep = (await any_service.client.post("/api/generate/sweep", json=body)).json()
    shown = await any_service.client.get(f"/api/batches/{sweep['batch_id']}")
    assert "prompts" in shown.text
    assert "hunter2" not in shown.text
    assert "webhook_url" not in shown.text

    await any_service.client.post(f"/api/batches/{sweep['batch_id']}/cancel")

    rows = await deliveries(any_service, type="image.cancelled")
    told = [(await any_service.client.get(LOG + row["id"])).json()["payload"]["data"] for row in rows]
    assert {each["asset_id"] for each in told} == set(sweep["asset_ids"])
    assert {each["batch_id"] for each in told} == {sweep["batch_id"]}


async def test_a_run_of_a_workflow_is_told_of(service: Service) -> None:
    await service.pulse("flux-tiny")
    body = {"parameters": {"prompt": "x"}, "base_model": "flux-tiny", "webhook_url": "http://127.0.0.1:1/"}
    response = await service.client.post("/api/workflows/flux_text_to_image/run", json=body)
    assert response.status_code == 202, response.text
    await service.complete(await service.claim())

    assert [row["type"] for row in await deliveries(service)] == ["image.completed"]


@pytest.mark.parametrize("named", [None, "http://127.0.0.1:2/own"])
async def test_the_setting_is_for_requests_that_name_nobody(service_settings: Settings, named: str | None) -> None:
    url = SecretStr("http://127.0.0.1:1/setting")
    async with serving(with_values(service_settings, masuka_webhook_url=url)) as service:
        await service.pictures(base_model="flux-tiny", webhook_url=named)
        await service.complete(await service.claim())
        (row,) = await deliveries(service)

    assert row["receiver"] == ("http://127.0.0.1:1" if named is None else "http://127.0.0.1:2")


async def test_nobody_is_told_where_nobody_is_named(service: Service) -> None:
    await service.pictures(base_model="flux-tiny")
    await service.complete(await service.claim())

    assert await deliveries(service) == []


async def test_a_url_is_kept_out_of_every_answer(service: Service) -> None:
    async with receiving() as receiver:
        made = await completed(service, receiver)
    for path in (
        f"/api/assets/{made['asset_id']}",
        f"/api/jobs/{made['task_id']}",
        "/api/assets/",
        "/api/jobs/",
    ):
        response = await service.client.get(path)
        assert response.status_code == 200
        assert "hunter2" not in response.text


# ---- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["", "hunter2", "ftp://me:hunter2@x/", "http://", "https://x:99999/", "https://x/a b", "//x/"]
)
async def test_what_is_no_url_is_refused_without_repeating_it(service: Service, url: str) -> None:
    await service.pulse("flux-tiny")
    body = {"prompt": "x", "base_model": "flux-tiny", "webhook_url": url}
    before = await service.traces()

    response = await service.client.post(GENERATE, json=body)

    assert_problem(response, 422, "webhook_url_invalid")
    assert "hunter2" not in response.text
    assert await service.traces() == before


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "[::1]", "10.1.2.3", "169.254.169.254", "[::ffff:127.0.0.1]", "0.0.0.0"]
)
async def test_a_private_address_is_refused_unless_it_is_allowed(service_settings: Settings, host: str) -> None:
    async with serving(with_values(service_settings, masuka_webhook_private=False)) as service:
        await service.pulse("flux-tiny")
        before = await service.traces()
        body = {"prompt": "x", "base_model": "flux-tiny", "webhook_url": f"https://me:hunter2@{host}:9/hook"}

        response = await service.client.post(GENERATE, json=body)

        problem = assert_problem(response, 422, "webhook_address_private")
        assert "MASUKA_WEBHOOK_PRIVATE" in problem["hint"]
        assert "hunter2" not in response.text
        assert await service.traces() == before


async def test_without_a_secret_nothing_could_be_signed(service_settings: Settings) -> None:
    async with serving(with_values(service_settings, masuka_webhook_secret=SecretStr(""))) as service:
        await service.pulse("flux-tiny")
        dataset = await service.dataset()
        for path, body in (
            (GENERATE, {"prompt": "x", "base_model": "flux-tiny"}),
            ("/api/workflows/flux_text_to_image/run", {"base_model": "flux-tiny"}),
            ("/api/training/flux", {"dataset_id": dataset["id"], "base_model": "flux-tiny"}),
        ):
            response = await service.client.post(path, json={**body, "webhook_url": "https://example.org/"})
            assert "MASUKA_WEBHOOK_SECRET" in assert_problem(response, 422, "webhook_secret_missing")["hint"]
