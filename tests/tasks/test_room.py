"""Jobs begin when the disk has room for them, and wait for it where everyone can see it."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from api.disk import Need
from api.domain.disk import GB
from api.domain.job import Kind, Queue
from api.resources import Resources
from api.services import jobs
from api.tasks import room
from api.tasks.attempt import Attempt
from api.tasks.dispatch import Dispatcher
from api.tasks.room import make_room
from tests.job_rows import add, read
from tests.space import Space, on_disk
from tests.tasks.stage import nothing_to_record, on_duty, published
from tests.waiting import until_async


@pytest.fixture
def space() -> Space:
    return Space(free=5 * GB)


@pytest.fixture
def resources(resources: Resources, space: Space, monkeypatch: pytest.MonkeyPatch) -> Resources:
    monkeypatch.setattr(room, "LOOK_SECONDS", 0.01)
    return on_disk(resources, space)


@pytest.fixture
async def needs(resources: Resources) -> AsyncIterator[dict[Kind, Need]]:
    """What jobs of a kind need; a worker is on duty that does nothing but make room."""
    said: dict[Kind, Need] = {}

    async def run(attempt: Attempt) -> None:
        await make_room(attempt, said[attempt.kind])
        await attempt.progress(urgent=True, stage="working", message="At work")
        await attempt.complete(nothing_to_record)

    async with on_duty(Dispatcher(resources, Queue.GPU, dict.fromkeys(Kind, run))):
        yield said


async def waits(resources: Resources, job_id: UUID) -> str:
    """What a job says that waits for space."""
    told: list[str] = []

    async def said() -> bool:
        events = await published(resources, job_id)
        told[:] = [event["message"] for event in events if event["stage"] == "waiting_for_disk"]
        return bool(told)

    await until_async(said)
    return told[-1]


async def ended(resources: Resources, job_id: UUID) -> str:
    async def over() -> bool:
        return (await read(resources.sessions, job_id)).finished_at is not None

    await until_async(over)
    return (await read(resources.sessions, job_id)).status


async def test_a_job_waits_for_room_says_how_much_and_goes_on(
    resources: Resources, needs: dict[Kind, Need], space: Space
) -> None:
    needs[Kind.TRAINING] = Need(6 * GB)
    job_id = await add(resources.sessions, Kind.TRAINING)

    said = await waits(resources, job_id)

    folder = resources.settings.masuka_data_dir
    assert said == f"Waiting for disk space: 2.0 GB more must be free in {folder} (1.0 GB always stay free)"
    space.free = 7 * GB
    assert await ended(resources, job_id) == "completed"
    stages = [event["stage"] for event in await published(resources, job_id)]
    assert list(dict.fromkeys(stages)) == ["starting", "waiting_for_disk", "working", "completed"]


async def test_a_job_that_waits_for_room_can_be_cancelled(resources: Resources, needs: dict[Kind, Need]) -> None:
    needs[Kind.IMAGE] = Need(5 * GB)
    job_id = await add(resources.sessions)
    await waits(resources, job_id)
    async with resources.sessions.begin() as session:
        await jobs.request_cancel(session, job_id)
    assert await ended(resources, job_id) == "cancelled"


async def test_a_job_that_no_empty_disk_could_hold_fails_at_once(resources: Resources, needs: dict[Kind, Need]) -> None:
    needs[Kind.TRAINING] = Need(199 * GB + 1)
    job_id = await add(resources.sessions, Kind.TRAINING)
    assert await ended(resources, job_id) == "failed"
    job = await read(resources.sessions, job_id)
    assert (job.error_code, job.attempt) == ("disk_too_small", 1)


async def test_an_ended_job_gives_back_what_it_was_promised(resources: Resources, needs: dict[Kind, Need]) -> None:
    needs[Kind.TRAINING] = Need(4 * GB)
    for _ in range(2):
        assert await ended(resources, await add(resources.sessions, Kind.TRAINING)) == "completed"

    async def all_given_back() -> bool:
        return await resources.disk.ask("another", Need(4 * GB)) == 0

    await until_async(all_given_back)
