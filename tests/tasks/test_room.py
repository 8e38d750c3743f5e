"""Jobs begin when the disk has room for them, and wait for it where everyone can see it."""

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from api.disk import Need
from api.domain.disk import GB
from api.domain.job import Kind, Queue
from api.engines import locate
from api.models import TrainingSession
from api.resources import Resources
from api.services import jobs
from api.services.checkpoints import folder_key
from api.settings import Settings
from api.tasks import room
from api.tasks.attempt import Attempt
from api.tasks.dispatch import Dispatcher
from api.tasks.room import make_room
from tests.job_rows import add, read
from tests.space import Space, on_disk
from tests.tasks.stage import Stage, complete, nothing_to_record, on_duty, published
from tests.tasks.trainings import begin
from tests.waiting import until, until_async


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


@pytest.fixture
async def worker(resources: Resources, stage: Stage, needs_of: dict[UUID, int]) -> AsyncIterator[Dispatcher]:
    """On duty; its jobs make the room that they need, then wait on the stage."""

    async def run(attempt: Attempt) -> None:
        await make_room(attempt, Need(needs_of.get(attempt.job_id, 0)))
        await stage.run(attempt)

    opened = Dispatcher(resources, Queue.GPU, dict.fromkeys(Kind, run))
    async with on_duty(opened):
        yield opened


@pytest.fixture
def needs_of() -> dict[UUID, int]:
    """Bytes, by job."""
    return {}


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


async def test_a_training_owes_the_disk_no_longer_what_its_checkpoints_have_in_the_storage(
    resources: Resources, settings: Settings, tmp_path: Path
) -> None:
    training = await begin(resources, tmp_path)
    async with resources.sessions() as session:
        row = await session.get_one(TrainingSession, training.id)
    base = locate.base_model(settings, "flux-tiny")
    need = await room.training_need(resources.storage, row, base, [], training.workdir)
    assert need.left() == need.total
    checkpoint = tmp_path / "optimizer.bin"
    checkpoint.write_bytes(b"x" * 1000)
    await resources.storage.put_file(f"{folder_key(training.id)}/checkpoint-000004-0/optimizer.bin", checkpoint)
    assert need.left() == need.total - 1000


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


# ---- the GPU meanwhile -------------------------------------------------------------------------------------------


async def submit(
    resources: Resources, needs_of: dict[UUID, int], kind: Kind, gigabytes: int = 0, *, seconds_ago: float = 0
) -> UUID:
    job_id = await add(resources.sessions, kind, seconds_ago=seconds_ago)
    needs_of[job_id] = gigabytes * GB
    await resources.queue.ring(Queue.GPU)
    return job_id


async def said(resources: Resources, job_id: UUID) -> tuple[str, str]:
    """The stage and the message that clients see."""
    progress = (await read(resources.sessions, job_id)).progress
    return progress["stage"], progress["message"]


async def returning(resources: Resources, job_id: UUID) -> None:
    """Until there is room for the training, which then waits for the GPU."""
    now = ("waiting_for_disk", "There is disk space now: waiting for the GPU")

    async def told() -> bool:
        return await said(resources, job_id) == now

    await until_async(told)


async def test_pictures_are_drawn_while_a_training_waits_for_room_and_it_goes_before_the_next_ones(
    resources: Resources, worker: Dispatcher, stage: Stage, needs_of: dict[UUID, int], space: Space
) -> None:
    training = await submit(resources, needs_of, Kind.TRAINING, 6)
    await waits(resources, training)
    first, second, third = [await submit(resources, needs_of, Kind.IMAGE, seconds_ago=3 - n) for n in range(3)]
    await stage.entered(first, second)

    space.free = 7 * GB
    await returning(resources, training)
    await stage.cue(first, complete)
    await stage.entered(second)
    await worker.pump()
    assert stage.running.keys() == {second}
    await stage.cue(second, complete)

    await stage.entered(training)
    await worker.pump()
    assert worker.state()["gpu"] == {"mode": "alone", "jobs": [{"id": str(training), "kind": "training"}]}
    assert await resources.disk.missing("another", Need(1)) == 1
    await stage.cue(training, complete)
    await stage.entered(third)


async def test_a_training_whose_space_is_gone_when_it_is_back_lets_pictures_in_again(
    resources: Resources, worker: Dispatcher, stage: Stage, needs_of: dict[UUID, int], space: Space
) -> None:
    training = await submit(resources, needs_of, Kind.TRAINING, 6)
    await waits(resources, training)
    picture = await submit(resources, needs_of, Kind.IMAGE)
    await stage.entered(picture)
    space.free = 7 * GB
    await returning(resources, training)

    space.free = 6 * GB
    await stage.cue(picture, complete)
    later = await submit(resources, needs_of, Kind.IMAGE)

    await stage.entered(later)
    space.free = 7 * GB
    await stage.cue(later, complete)
    await stage.entered(training)


async def test_a_returning_training_leaves_the_space_to_the_picture_that_it_waits_for(
    resources: Resources, worker: Dispatcher, stage: Stage, needs_of: dict[UUID, int], space: Space
) -> None:
    training = await submit(resources, needs_of, Kind.TRAINING, 6)
    await waits(resources, training)
    picture = await submit(resources, needs_of, Kind.IMAGE, 5)
    await waits(resources, picture)

    space.free = 7 * GB
    await stage.cue(picture, complete)

    await stage.entered(training)


async def test_no_other_training_overtakes_one_that_waits_for_room(
    resources: Resources, worker: Dispatcher, stage: Stage, needs_of: dict[UUID, int], space: Space
) -> None:
    training = await submit(resources, needs_of, Kind.TRAINING, 6)
    await waits(resources, training)
    small = await submit(resources, needs_of, Kind.TRAINING, seconds_ago=9)
    picture = await submit(resources, needs_of, Kind.IMAGE)
    await stage.entered(picture)
    await stage.cue(picture, complete)
    await until(lambda: worker.state()["gpu"]["mode"] == "idle")
    await worker.pump()
    assert stage.running == {}

    space.free = 7 * GB
    await stage.entered(training)
    await stage.cue(training, complete)

    await stage.entered(small)


@pytest.mark.parametrize("has_room", [False, True])
async def test_a_training_cancelled_outside_the_gpu_holds_up_nobody(
    resources: Resources, worker: Dispatcher, stage: Stage, needs_of: dict[UUID, int], space: Space, has_room: bool
) -> None:
    training = await submit(resources, needs_of, Kind.TRAINING, 6)
    await waits(resources, training)
    picture = await submit(resources, needs_of, Kind.IMAGE)
    await stage.entered(picture)
    if has_room:
        space.free = 7 * GB
        await returning(resources, training)

    async with resources.sessions.begin() as session:
        await jobs.request_cancel(session, training)
    assert await ended(resources, training) == "cancelled"

    other = await submit(resources, needs_of, Kind.IMAGE)
    await stage.entered(picture, other)
    await stage.cue(picture, complete)
    await stage.cue(other, complete)
    await stage.entered(await submit(resources, needs_of, Kind.TRAINING))
