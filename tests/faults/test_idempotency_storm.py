"""A thousand requests with one key that arrive together are one piece of work with one answer, and cost little."""

import asyncio
import json
import resource
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from redis.asyncio import Redis
from sqlalchemy import Engine, event

from api.db import Sessions, open_database
from api.domain.job import Queue
from api.models import Job
from api.services import workers
from api.settings import Settings
from tests.service import assert_problem, over_http, with_values

REQUESTS = 1000
GENERATE = "/api/generate/image"
BODY = {"prompt": "x", "base_model": "flux-tiny"}
KEY = {"Idempotency-Key": "one"}


@pytest.fixture
async def storm(settings: Settings, valkey_url: str, database_url: str) -> Settings:
    """Settings of a service on each database, whose worker says that flux-tiny is installed."""
    said = json.dumps({"comfyui": "asleep", "comfyui_error": None, "bases": ["flux-tiny"]})
    async with Redis.from_url(valkey_url) as redis:
        await redis.set(workers.pulse_key(Queue.GPU), said)
    return with_values(settings, redis_url=valkey_url, database_url=database_url)


@pytest.fixture(autouse=True)
def _enough_sockets() -> Iterator[None]:
    """Both ends of every connection are in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, 2 * REQUESTS + 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
async def sessions(storm: Settings) -> AsyncIterator[Sessions]:
    async with open_database(storm) as opened:
        yield opened


async def _jobs(sessions: Sessions) -> int:
    async with sessions() as session:
        return await session.scalar(sa.select(sa.func.count()).select_from(Job)) or 0


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """How many statements of each kind the service sends meanwhile."""
    sent: Counter[str] = Counter()

    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        sent[statement.split(maxsplit=1)[0]] += 1

    event.listen(Engine, "before_cursor_execute", count)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", count)


async def post_together(client: httpx.AsyncClient, request: httpx.Request, times: int) -> list[tuple[int, Any]]:
    """Status and body of each; every connection is open before the first request is sent."""
    head = [f"POST {request.url.path} HTTP/1.1", "Host: localhost", "Connection: close"]
    head += [f"{name}: {value}" for name, value in request.headers.items() if name not in ("host", "connection")]
    raw = "\r\n".join((*head, "", "")).encode() + request.content
    streams = [await asyncio.open_connection(client.base_url.host, client.base_url.port) for _ in range(times)]
    for _, writer in streams:
        writer.write(raw)
    answers = await asyncio.gather(*(reader.read() for reader, _ in streams))
    for _, writer in streams:
        writer.close()
    return [_parsed(answer) for answer in answers]


def _parsed(answer: bytes) -> tuple[int, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), json.loads(body)


async def test_a_thousand_at_once_make_one_job_and_get_one_answer(storm: Settings, sessions: Sessions) -> None:
    async with over_http(storm) as client:
        request = client.build_request("POST", GENERATE, json=BODY, headers=KEY)
        with counted() as statements:
            answers = await post_together(client, request, REQUESTS)
        assert {status for status, _ in answers} == {202}
        ((_, first), *others) = answers
        assert all(body == first for _, body in others)
        assert statements.total() < 20
        other = await client.post(GENERATE, json={**BODY, "prompt": "y"}, headers=KEY)
        assert_problem(other, 409, "idempotency_key_reused")
    async with over_http(storm) as client:  # a new process knows it too
        again = await post_together(client, request, 50)
        assert again == [(202, first)] * 50
    assert await _jobs(sessions) == 1
