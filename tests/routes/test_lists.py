"""Every list: newest first, by cursor, complete whatever is added meanwhile; filters."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from api.domain.job import Kind
from api.errors import EngineError
from api.models import Batch, Dataset, GeneratedAsset, Job, Model, TrainingSession, WebhookDelivery
from tests.service import Service, ids

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def _row(path: str, number: int, created: datetime) -> Any:
    common: dict[str, Any] = {"id": UUID(int=number), "created_at": created}
    if path == "/api/datasets/":
        return Dataset(name="me", storage_path="datasets/x", is_processed=True, **common)
    if path == "/api/training/":
        return TrainingSession(name="me", task_id=UUID(int=1), **common)
    if path == "/api/assets/":
        return GeneratedAsset(prompt="x", task_id=UUID(int=1), **common)
    if path == "/api/batches/":
        return Batch(total=1, **common)
    if path == "/api/models/":
        return Model(name="me", base_model="flux-tiny", storage_path="models/x", file_size_mb=1.0, **common)
    if path == "/api/webhooks/deliveries/":
        about: dict[str, Any] = {"type": "image.completed", "url": "https://x/", "receiver": "https://x", "body": "{}"}
        return WebhookDelivery(job_id=UUID(int=1), **about, **common)
    job = Job.new(Kind.IMAGE)
    job.id, job.created_at = common["id"], created
    return job


async def _walk(service: Service, path: str, limit: int) -> list[list[str]]:
    pages: list[list[str]] = []
    cursor: dict[str, str] = {}
    while True:
        body = (await service.client.get(path, params={"limit": limit, **cursor})).json()
        pages.append(ids(body["items"]))
        if body["next_cursor"] is None:
            return pages
        cursor = {"cursor": body["next_cursor"]}


LISTS = [
    "/api/datasets/",
    "/api/training/",
    "/api/assets/",
    "/api/batches/",
    "/api/models/",
    "/api/jobs/",
    "/api/webhooks/deliveries/",
]


@pytest.mark.parametrize("path", LISTS)
async def test_pages_hold_every_row_once_newest_first_even_with_equal_times(any_service: Service, path: str) -> None:
    rows = [_row(path, n, BEGIN + timedelta(microseconds=n // 3)) for n in range(1, 11)]
    async with any_service.resources.sessions.begin() as session:
        session.add_all(rows)
    expected = [str(UUID(int=n)) for n in range(10, 0, -1)]
    for limit in (1, 3, 5, 10, 200):
        pages = await _walk(any_service, path, limit)
        assert [row for page in pages for row in page] == expected
        assert [len(page) for page in pages[:-1]] == [limit] * (len(pages) - 1)


async def test_a_row_added_while_a_list_is_read_shifts_nothing(service: Service) -> None:
    async with service.resources.sessions.begin() as session:
        session.add_all(_row("/api/datasets/", n, BEGIN + timedelta(seconds=n)) for n in range(1, 5))
    first = (await service.client.get("/api/datasets/", params={"limit": 2})).json()
    async with service.resources.sessions.begin() as session:
        session.add(_row("/api/datasets/", 9, BEGIN + timedelta(seconds=9)))
    second = (await service.client.get("/api/datasets/", params={"cursor": first["next_cursor"]})).json()
    assert ids(first["items"]) + ids(second["items"]) == [str(UUID(int=n)) for n in (4, 3, 2, 1)]


async def test_filters_choose_by_status_and_type(any_service: Service) -> None:
    async def found(path: str, **params: str) -> list[str]:
        return ids((await any_service.client.get(path, params=params)).json()["items"])

    model = await any_service.model()
    training = await any_service.training()
    await any_service.claim()
    done = await any_service.pictures(base_model="flux-tiny", model_id=model["id"])
    await any_service.fail(await any_service.claim(), EngineError("It failed."))
    waiting = await any_service.pictures(base_model="flux-dev")

    assert await found("/api/training/", status="training") == [training["id"]]
    assert await found("/api/training/", status="completed") == []
    assert await found("/api/training/", model_type="wan_video") == []
    assert await found("/api/assets/", status="pending") == [waiting["asset_id"]]
    assert await found("/api/assets/", status="failed", asset_type="image") == [done["asset_id"]]
    assert await found("/api/assets/", asset_type="video") == []
    assert await found("/api/assets/", model_id=model["id"]) == [done["asset_id"]]
    assert await found("/api/models/", base_model="flux-tiny", model_type="flux_image") == [model["id"]]
    assert await found("/api/models/", base_model="flux-dev") == []
    assert await found("/api/jobs/", kind="training", status="running") == [training["task_id"]]
    assert await found("/api/jobs/", kind="image", status="failed") == [done["task_id"]]
