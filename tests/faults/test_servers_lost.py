"""Redis and the database die, hang and come back while jobs run: work goes on, and every end is honest."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

import pytest
import sqlalchemy as sa

from api.domain.job import Kind, Queue
from api.progress import job_stream
from api.queue import ANSWER_SECONDS, queue_key
from api.resources import Resources, open_resources
from api.services import jobs
from api.settings import Settings
from api.tasks.attempt import Attempt
from api.tasks.dispatch import Dispatcher
from tests.job_rows import add, assert_sound, read
from tests.service import serving, with_values
from tests.tasks.stage import Stage, complete, on_duty, published
from tests.valkey import EmbeddedValkey
from tests.waiting import until_async


@pytest.fixture
def short_settings(settings: Settings) -> Iterator[Settings]:
    """Settings whose data folder leaves room for a socket's name."""
    with TemporaryDirectory(prefix="masuka-", dir="/tmp") as folder:
        yield with_values(settings, masuka_data_dir=Path(folder))


@pytest.fixture
async def valkey(short_settings: Settings) -> AsyncIterator[EmbeddedValkey]:
    server = EmbeddedValkey(short_settings)
    await server.start()
    yield server
    await server.kill()


@pytest.fixture
async def resources(valkey: EmbeddedValkey) -> AsyncIterator[Resources]:
    async with open_resources(valkey.settings, valkey.url) as opened:
        yield opened


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
async def dispatcher(resources: Resources, stage: Stage) -> AsyncIterator[Dispatcher]:
    opened = Dispatcher(resources, Queue.GPU, dict.fromkeys(Kind, stage.run))
    async with on_duty(opened):
        yield opened


async def report(attempt: Attempt) -> None:
    await attempt.progress(urgent=True, stage="sampling", step=1)


async def completed(resources: Resources, job_id: UUID) -> None:
    async def is_completed() -> bool:
        return (await read(resources.sessions, job_id)).status == "completed"

    await until_async(is_completed, 20)
    await assert_sound(resources.sessions, job_id)


async def test_without_redis_jobs_start_report_are_cancelled_and_complete(
    resources: Resources, dispatcher: Dispatcher, stage: Stage, valkey: EmbeddedValkey
) -> None:
    running = await add(resources.sessions)
    await stage.entered(running)
    await valkey.kill()

    later = await add(resources.sessions)
    await stage.entered(running, later)
    await stage.cue(running, report)
    async with resources.sessions.begin() as session:
        await jobs.request_cancel(session, later)
    await stage.entered(running)
    await stage.cue(running, complete)

    await completed(resources, running)
    assert (await read(resources.sessions, running)).progress["step"] == 1


async def test_when_redis_is_back_bells_cancels_and_progress_are_heard_again(
    resources: Resources, dispatcher: Dispatcher, stage: Stage, valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await add(resources.sessions)
    await stage.entered(before)
    await valkey.kill()
    await valkey.start()

    async with resources.progress.listen(before) as events:
        await stage.cue(before, complete)
        async with asyncio.timeout(10):
            while b'"completed"' not in (await events.get()).data:
                pass
    assert (await published(resources, before))[-1]["status"] == "completed"
    after = await add(resources.sessions)
    await resources.queue.ring(Queue.GPU)
    await stage.entered(after)
    await stage.cue(after, complete)
    await completed(resources, after)


async def test_a_redis_that_hangs_does_not_hang_the_job(
    resources: Resources, dispatcher: Dispatcher, stage: Stage, valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.progress.ANSWER_SECONDS", 0.2)
    monkeypatch.setattr("api.queue.ANSWER_SECONDS", 0.2)
    job_id = await add(resources.sessions)
    await stage.entered(job_id)

    with valkey.frozen():
        await resources.queue.ring(Queue.GPU)
        await resources.queue.announce_cancel(job_id)
        assert await resources.progress.last_id(job_id) == "0-0"
        assert await resources.progress.since(job_id, "0-0") is None
        await stage.cue(job_id, report)
        await stage.cue(job_id, complete)
        await completed(resources, job_id)


async def test_a_picture_asked_for_without_redis_is_accepted_at_once_and_drawn(
    valkey: EmbeddedValkey, stage: Stage
) -> None:
    async with (
        serving(with_values(valkey.settings, redis_url=valkey.url)) as service,
        on_duty(Dispatcher(service.resources, Queue.GPU, {Kind.IMAGE: stage.run})),
    ):
        await service.resources.redis.ping()
        await valkey.kill()

        began = time.monotonic()
        response = await service.client.post("/api/generate/image", json={"prompt": "me", "base_model": "flux-tiny"})

        assert time.monotonic() - began < ANSWER_SECONDS
        assert response.status_code == 202
        job_id = UUID(response.json()["task_id"])
        await stage.cue(job_id, complete)
        await completed(service.resources, job_id)


async def test_nobody_waits_for_a_bell_and_it_rings_all_the_same(resources: Resources, valkey: EmbeddedValkey) -> None:
    await resources.redis.ping()
    with valkey.frozen():
        await resources.queue.ring(Queue.GPU)
        assert resources.queue._ringing, "it has been left to ring by itself"

    async def rung() -> bool:
        return bool(await resources.redis.zcard(queue_key(Queue.GPU)))

    await until_async(rung)


async def test_what_redis_was_told_survives_its_death(resources: Resources, valkey: EmbeddedValkey) -> None:
    job_id = await add(resources.sessions)
    await resources.progress.publish(job_id, jobs.snapshot_of(await read(resources.sessions, job_id)))
    last = await resources.progress.last_id(job_id)
    assert last != "0-0"

    await valkey.kill()
    await valkey.start()

    assert await resources.progress.last_id(job_id) == last
    assert await resources.redis.ttl(job_stream(job_id)) > 0


async def test_a_postgres_that_drops_every_connection_costs_no_job(
    settings: Settings, valkey_url: str, postgres_url: str, stage: Stage
) -> None:
    drop_all = sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    async with (
        open_resources(with_values(settings, database_url=postgres_url), valkey_url) as resources,
        on_duty(Dispatcher(resources, Queue.GPU, {Kind.IMAGE: stage.run})),
    ):
        job_id = await add(resources.sessions)
        await stage.entered(job_id)
        async with resources.sessions() as session:
            await session.execute(drop_all)

        await stage.cue(job_id, report)
        await stage.cue(job_id, complete)

        await completed(resources, job_id)
        assert stage.started == [(job_id, 1)]
