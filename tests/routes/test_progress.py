"""`/api/progress/stream`: the stream itself, and over a real uvicorn with connections that break."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import pytest
import redis.asyncio

from api.domain.progress import Snapshot
from api.errors import EngineError
from api.progress import CLIENT_BUFFER, Event, job_stream
from api.routes import progress
from api.serve import GRACEFUL_SECONDS
from api.services import jobs, standing
from tests.service import NOBODY, Service, assert_problem, over_http
from tests.waiting import until_async


@dataclass(frozen=True)
class Received:
    id: str
    data: dict[str, Any]


@asynccontextmanager
async def _stream(service: Service, job_id: UUID, last: str | None = None) -> AsyncIterator[AsyncIterator[Received]]:
    """The route's own generator: the in-process client would only see the whole body at its end."""
    events = progress.follow(service.resources, job_id, last)

    async def received() -> AsyncIterator[Received]:
        async for event in events:
            yield _received(event)

    try:
        yield received()
    finally:
        await events.aclose()


def _received(event: bytes) -> Received:
    lines = event.decode().split("\r\n")
    assert lines[3:] == ["", ""], "an event has three lines and an empty one"
    fields = dict(line.split(": ", 1) for line in lines[:3])
    assert fields.keys() == {"id", "data", "retry"}, "unnamed, or `onmessage` of a browser hears nothing"
    return Received(fields["id"], json.loads(fields["data"]))


async def _running(service: Service) -> tuple[UUID, jobs.Lease]:
    await service.pictures()
    lease = await service.claim()
    return lease.job_id, lease


async def _say(service: Service, job_id: UUID, step: int) -> None:
    await service.resources.progress.publish(job_id, Snapshot("generating", step=step, total_steps=1000))


async def _steps(service: Service, any_id: object, last: str | None = None) -> tuple[list[int], str]:
    """Steps of a whole stream that ends, as a client gets them, and the id of the last event."""
    headers = {} if last is None else {"Last-Event-ID": last}
    response = await service.client.get(f"/api/progress/stream/{any_id}", headers=headers)
    assert response.headers["content-type"].startswith("text/event-stream")
    events = _parse(response.text)
    return [event.data["step"] for event in events], events[-1].id


def _parse(text: str) -> list[Received]:
    blocks = [dict(line.split(": ", 1) for line in block.splitlines()) for block in text.split("\r\n\r\n") if block]
    return [Received(block["id"], json.loads(block["data"])) for block in blocks if "data" in block]


# ---- the stream ----------------------------------------------------------------------------------------------------


async def test_first_the_present_state_then_news_then_the_end(any_service: Service) -> None:
    job_id, lease = await _running(any_service)
    async with _stream(any_service, job_id) as events:
        first = await anext(events)
        assert (first.data["status"], first.data["progress"]) == ("generating", 0)
        await _say(any_service, job_id, 1)
        assert (await anext(events)).data["step"] == 1
        await any_service.complete(lease)
        last = await anext(events)
        assert (last.data["status"], last.data["progress"]) == ("completed", 100)
        with pytest.raises(StopAsyncIteration):
            await anext(events)


async def test_a_snapshot_has_every_field(service: Service) -> None:
    job_id, _ = await _running(service)
    async with _stream(service, job_id) as events:
        assert set((await anext(events)).data) == set(Snapshot("pending").to_dict())


async def test_the_session_the_asset_and_the_job_have_one_stream(service: Service) -> None:
    answer, training = await service.pictures(), await service.training()
    for any_id, task_id in ((answer["asset_id"], answer["task_id"]), (training["id"], training["task_id"])):
        await service.client.post(f"/api/jobs/{task_id}/cancel")
        bodies = [(await service.client.get(f"/api/progress/stream/{one}")).text for one in (any_id, task_id)]
        assert bodies[0] == bodies[1] != ""
        assert _parse(bodies[0])[0].data["status"] == "cancelled"


async def test_a_failed_job_ends_with_its_reason(service: Service) -> None:
    job_id, lease = await _running(service)
    await service.fail(lease, EngineError("No memory.", code="out_of_memory", hint="Less."))
    (event,) = _parse((await service.client.get(f"/api/progress/stream/{job_id}")).text)
    assert (event.data["error_code"], event.data["message"], event.data["hint"]) == (
        "out_of_memory",
        "No memory.",
        "Less.",
    )


async def test_after_an_event_come_exactly_those_that_were_missed(any_service: Service) -> None:
    job_id, lease = await _running(any_service)
    async with _stream(any_service, job_id) as events:
        await anext(events)
        for step in (1, 2, 3):
            await _say(any_service, job_id, step)
        seen = [await anext(events) for _ in range(2)]
    await _say(any_service, job_id, 4)
    async with _stream(any_service, job_id, seen[-1].id) as events:
        assert [(await anext(events)).data["step"] for _ in range(2)] == [3, 4]
        await _say(any_service, job_id, 5)
        assert (await anext(events)).data["step"] == 5
    await any_service.complete(lease)
    steps, _ = await _steps(any_service, job_id, seen[-1].id)
    assert steps[:3] == [3, 4, 5]


@pytest.mark.parametrize("known", ["first", "snapshot"])
async def test_an_event_that_arrives_late_is_not_told_twice(
    service: Service, known: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process's reader may be behind the client that comes from there."""
    job_id, lease = await _running(service)
    await _say(service, job_id, 1)
    first = await service.resources.progress.last_id(job_id)

    @asynccontextmanager
    async def late(_: UUID) -> AsyncIterator[asyncio.Queue[Event]]:
        queue: asyncio.Queue[Event] = asyncio.Queue()
        queue.put_nowait(Event(first, json.dumps(Snapshot("generating", step=1).to_dict()).encode()))
        queue.put_nowait(Event("99999999999999-0", json.dumps(Snapshot("completed", step=2).to_dict()).encode()))
        yield queue

    monkeypatch.setattr(service.resources.progress, "listen", late)
    async with _stream(service, job_id, first if known == "first" else None) as events:
        steps = [event.data["step"] async for event in events]
    assert steps == ([2] if known == "first" else [0, 2])
    await service.complete(lease)


JUNK = ["", "junk", "0-1", "1-1", "9" * 30 + "-0", "-", "99999999999999999999-1", "1" * 5000, "0-0; FLUSHALL"]


@pytest.mark.parametrize("last", JUNK, ids=lambda text: text[:12])
async def test_an_unknown_event_id_gets_the_present_state(service: Service, last: str) -> None:
    job_id, lease = await _running(service)
    await _say(service, job_id, 7)
    async with _stream(service, job_id, last) as events:
        assert (await anext(events)).data["status"] == "generating"
    await service.complete(lease)
    steps, _ = await _steps(service, job_id, last)
    assert len(steps) == 1


async def test_an_event_id_of_another_job_gets_the_present_state(service: Service) -> None:
    answer = await service.pictures()
    lease = await service.claim()
    await _say(service, lease.job_id, 7)
    await service.fail(lease, EngineError("It failed."))
    old = await service.resources.progress.last_id(lease.job_id)
    new = (await service.client.post(f"/api/jobs/{lease.job_id}/retry")).json()["id"]
    await service.client.post(f"/api/jobs/{new}/cancel")
    (event,) = _parse(
        (await service.client.get(f"/api/progress/stream/{answer['asset_id']}", headers={"Last-Event-ID": old})).text
    )
    assert event.data["status"] == "cancelled"


async def test_after_the_end_there_is_nothing_more_to_say(any_service: Service) -> None:
    job_id, lease = await _running(any_service)
    await _say(any_service, job_id, 1)
    before_the_end = await any_service.resources.progress.last_id(job_id)
    await any_service.complete(lease)
    _, last = await _steps(any_service, job_id, before_the_end)
    path = f"/api/progress/stream/{job_id}"
    response = await any_service.client.get(path, headers={"Last-Event-ID": last})
    assert (response.status_code, response.content) == (204, b"")
    assert (await any_service.client.get(path)).status_code == 200


async def test_an_id_of_nothing_is_not_found_before_any_stream_begins(service: Service) -> None:
    response = await service.client.get(f"/api/progress/stream/{NOBODY}", headers={"Accept": "text/event-stream"})
    assert_problem(response, 404, "stream_not_found")


async def test_an_end_that_redis_lost_is_told_all_the_same(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.02)
    job_id, lease = await _running(service)
    async with _stream(service, job_id) as events:
        await anext(events)
        async with service.resources.sessions.begin() as session:
            await jobs.complete(session, lease)
        assert [event.data["status"] async for event in events] == ["completed"]


async def test_an_end_that_redis_lost_while_nobody_listened_is_told_once(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.02)
    job_id, lease = await _running(service)
    await _say(service, job_id, 1)
    last = await service.resources.progress.last_id(job_id)
    async with service.resources.sessions.begin() as session:
        await jobs.complete(session, lease)
    path = f"/api/progress/stream/{job_id}"
    (event,) = _parse((await service.client.get(path, headers={"Last-Event-ID": last})).text)
    assert event.data["status"] == "completed"
    assert (await service.client.get(path, headers={"Last-Event-ID": event.id})).status_code == 204


async def test_a_job_that_waits_is_told_where_it_stands_and_when_that_changes(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "LOOK_SECONDS", 0.02)
    await service.pictures(num_images=2)
    async with _stream(service, await _newest(service)) as events:
        first = (await anext(events)).data
        assert (first["status"], first["queue_position"], first["eta_seconds"]) == ("pending", 2, None)
        assert first["message"] == "Waiting: 2nd in the queue"
        await service.claim()
        assert (await anext(events)).data["queue_position"] == 1
        await service.complete(await service.claim())
        assert (await anext(events)).data["status"] == "completed"


async def _newest(service: Service) -> UUID:
    """The job that was made last."""
    return UUID((await service.client.get("/api/jobs/", params={"limit": 1})).json()["items"][0]["id"])


async def test_a_redis_that_forgot_everything_costs_nothing_but_the_replay(service: Service) -> None:
    job_id, lease = await _running(service)
    await _say(service, job_id, 1)
    last = await service.resources.progress.last_id(job_id)
    await service.resources.redis.delete(job_stream(job_id))
    async with _stream(service, job_id, last) as events:
        assert (await anext(events)).data["status"] == "generating"
        await service.complete(lease)
        assert (await anext(events)).data["status"] == "completed"


async def test_many_clients_share_one_reader(service: Service, valkey_url: str) -> None:
    job_id, lease = await _running(service)
    streams = [progress.follow(service.resources, job_id, None) for _ in range(50)]
    await asyncio.gather(*(anext(stream) for stream in streams))
    async with redis.asyncio.Redis.from_url(valkey_url) as client:

        async def reading() -> bool:
            return [one["cmd"] for one in await client.client_list()].count("xread") == 1

        await until_async(reading)
        assert len(await client.client_list()) < 20
    await service.complete(lease)
    ends = await asyncio.gather(*(anext(stream) for stream in streams))
    assert {_received(event).data["status"] for event in ends} == {"completed"}
    for stream in streams:
        await stream.aclose()


async def test_many_clients_that_come_at_once_share_one_look(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    await service.pictures()
    job_id = await _newest(service)
    looks = 0

    async def counted(*asked: Any) -> Any:
        nonlocal looks
        looks += 1
        return await standing.place_of(*asked)

    monkeypatch.setattr(progress, "place_of", counted)
    streams = [progress.follow(service.resources, job_id, None) for _ in range(200)]
    firsts = await asyncio.gather(*(anext(stream) for stream in streams))
    assert {_received(event).data["queue_position"] for event in firsts} == {1}
    assert looks < 10
    for stream in streams:
        await stream.aclose()


async def test_a_slow_client_loses_old_news_and_never_the_end(service: Service) -> None:
    job_id, lease = await _running(service)
    async with _stream(service, job_id) as slow, _stream(service, job_id) as quick:
        await anext(slow)
        await anext(quick)
        for step in range(1, CLIENT_BUFFER + 20):
            await _say(service, job_id, step)
            assert (await anext(quick)).data["step"] == step
        await service.complete(lease)
        assert (await anext(quick)).data["status"] == "completed"
        received = [event async for event in slow]
    assert len(received) == CLIENT_BUFFER
    assert received[-1].data["status"] == "completed"
    assert [event.data["step"] for event in received[:-1]] == list(range(21, CLIENT_BUFFER + 20))


# ---- over a real server --------------------------------------------------------------------------------------------


@asynccontextmanager
async def _connected(
    client: httpx.AsyncClient, job_id: UUID, last: str | None = None
) -> AsyncIterator[AsyncIterator[str]]:
    headers = {} if last is None else {"Last-Event-ID": last}
    async with client.stream("GET", f"/api/progress/stream/{job_id}", headers=headers) as response:
        assert response.status_code == 200
        assert response.headers["cache-control"] == "no-cache, no-transform"
        yield response.aiter_lines()


async def _next(lines: AsyncIterator[str]) -> Received:
    event: dict[str, str] = {}
    async for line in lines:
        name, _, value = line.partition(": ")
        event[name] = value
        if not line and "data" in event:
            return Received(event["id"], json.loads(event["data"]))
    raise StopAsyncIteration


async def test_a_connection_that_breaks_is_taken_up_where_it_was_even_after_a_restart(service: Service) -> None:
    job_id, lease = await _running(service)
    seen: list[Received] = []
    async with over_http(service.settings) as client:
        async with _connected(client, job_id) as lines:
            await _next(lines)
            for step in (1, 2, 3):
                await _say(service, job_id, step)
            seen += [await _next(lines), await _next(lines)]
        await _say(service, job_id, 4)
        async with _connected(client, job_id, seen[-1].id) as lines:
            seen += [await _next(lines), await _next(lines)]
            await _say(service, job_id, 5)
            seen.append(await _next(lines))
    await _say(service, job_id, 6)
    async with over_http(service.settings) as client:
        async with _connected(client, job_id, seen[-1].id) as lines:
            seen.append(await _next(lines))
            await _say(service, job_id, 7)
            seen.append(await _next(lines))
            await service.complete(lease)
            seen.append(await _next(lines))
            assert [line async for line in lines] == []
        response = await client.get(f"/api/progress/stream/{job_id}", headers={"Last-Event-ID": seen[-1].id})
        assert response.status_code == 204
    assert [event.data["step"] for event in seen[:-1]] == [1, 2, 3, 4, 5, 6, 7]
    assert seen[-1].data["status"] == "completed"
    assert len({event.id for event in seen}) == len(seen)


async def test_a_silent_stream_gives_signs_of_life(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "HEARTBEAT_SECONDS", 0.05)
    job_id, _ = await _running(service)
    async with over_http(service.settings) as client, _connected(client, job_id) as lines:
        await _next(lines)
        pings = [line async for line in _until_two_pings(lines)]
    assert all(line.startswith(":") for line in pings)  # a comment: no client takes it for news


async def _until_two_pings(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    count = 0
    async for line in lines:
        if line:
            yield line
            count += 1
        if count == 2:
            return


async def test_a_server_that_ends_does_not_wait_for_its_listeners(service: Service) -> None:
    job_id, _ = await _running(service)
    async with httpx.AsyncClient(trust_env=False) as listener:
        async with over_http(service.settings) as client:
            request = listener.build_request("GET", f"{client.base_url}/api/progress/stream/{job_id}")
            response = await listener.send(request, stream=True)
            lines = response.aiter_lines()
            await _next(lines)
            ending = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - ending < GRACEFUL_SECONDS
