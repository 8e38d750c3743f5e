"""What a crash left untrue is made true again."""

import asyncio
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlmodel import col

from api.domain.job import Queue
from api.lease import new_owner
from api.models import Dataset, Job, StoredAnswer, UnrecordedFile
from api.models.base import utcnow
from api.queue import queue_key
from api.resources import Resources
from api.scratch import scratch_root
from api.services import datasets, jobs, unrecorded
from api.tasks import reconcile as reconciling
from api.tasks.reconcile import Lapsed, reconcile, reconcile_forever, remove_leftovers
from tests.job_rows import add, assert_sound, claim, let_lease_run_out, read
from tests.owners import dead_owner, living_owner
from tests.tasks.stage import published
from tests.waiting import until_async


async def owned_by(resources: Resources, owner: str) -> UUID:
    """A job that `owner` runs, with a lease good for seconds."""
    job_id = await add(resources.sessions)
    assert await claim(resources.sessions, owner) == job_id
    return job_id


async def test_the_job_of_a_dead_process_on_this_host_is_pending_again_at_once(resources: Resources) -> None:
    job_id = await owned_by(resources, dead_owner())

    await reconcile(resources, lapsed=Lapsed(0))

    job = await read(resources.sessions, job_id)
    assert (job.status, job.attempt) == ("pending", 2)
    assert [event["status"] for event in await published(resources, job_id)] == ["pending"]
    await assert_sound(resources.sessions, job_id)


@pytest.mark.parametrize("owner", [new_owner(), "another host|1|1|x"], ids=["lives", "another host"])
async def test_a_job_whose_worker_lives_or_may_live_is_left_alone(resources: Resources, owner: str) -> None:
    job_id = await owned_by(resources, owner)

    await reconcile(resources, lapsed=Lapsed(0))

    job = await read(resources.sessions, job_id)
    assert (job.status, job.lease_owner, job.attempt) == ("running", owner, 1)


async def test_the_job_of_a_worker_that_gives_no_sign_is_pending_again(resources: Resources) -> None:
    with living_owner() as hanging:
        job_id = await owned_by(resources, hanging)
        await let_lease_run_out(resources.sessions, job_id)

        await reconcile(resources, lapsed=Lapsed(0))

    assert (await read(resources.sessions, job_id)).attempt == 2


async def test_a_worker_that_could_not_renew_its_lease_for_a_while_has_time_to_do_so(resources: Resources) -> None:
    lapsed, owner = Lapsed(grace_seconds=0.2), new_owner()
    job_id = await owned_by(resources, owner)
    await let_lease_run_out(resources.sessions, job_id)
    await reconcile(resources, lapsed=lapsed)
    async with resources.sessions.begin() as session:
        assert owner in await jobs.renew(session, [owner])
    await let_lease_run_out(resources.sessions, job_id)
    await reconcile(resources, lapsed=lapsed)
    assert (await read(resources.sessions, job_id)).attempt == 1

    async def is_pending() -> bool:
        await reconcile(resources, lapsed=lapsed)
        return (await read(resources.sessions, job_id)).status == "pending"

    await until_async(is_pending)


async def test_a_job_that_kills_its_workers_ends_and_says_so(resources: Resources) -> None:
    dead = dead_owner()
    job_id = await owned_by(resources, dead)
    for _ in range(2):
        await reconcile(resources, lapsed=Lapsed(0))
        assert await claim(resources.sessions, dead) == job_id

    await reconcile(resources, lapsed=Lapsed(0))

    last = (await published(resources, job_id))[-1]
    assert (last["status"], last["error_code"]) == ("failed", "worker_lost")
    await assert_sound(resources.sessions, job_id)


async def test_a_job_whose_cancel_its_dead_worker_did_not_hear_is_cancelled(resources: Resources) -> None:
    job_id = await owned_by(resources, dead_owner())
    async with resources.sessions.begin() as session:
        await jobs.request_cancel(session, job_id)

    await reconcile(resources, lapsed=Lapsed(0))

    assert (await published(resources, job_id))[-1]["status"] == "cancelled"


async def test_a_bell_is_rung_for_each_queue_with_pending_jobs(resources: Resources) -> None:
    await reconcile(resources, lapsed=Lapsed(0))
    assert await resources.redis.zcard(queue_key(Queue.GPU)) == 0

    await add(resources.sessions)
    await reconcile(resources, lapsed=Lapsed(0))

    assert await resources.redis.zcard(queue_key(Queue.GPU)) == 1
    assert await resources.redis.zcard(queue_key(Queue.CPU)) == 0


async def test_answers_are_kept_for_a_day(resources: Resources) -> None:
    now = utcnow()
    async with resources.sessions.begin() as session:
        for key, hours in (("old", 24.1), ("young", 23.9)):
            created_at = now - timedelta(hours=hours)
            session.add(StoredAnswer(key=key, fingerprint="x", owner="x", created_at=created_at))

    await remove_leftovers(resources)

    async with resources.sessions() as session:
        assert (await session.scalars(sa.select(col(StoredAnswer.key)))).all() == ["young"]


async def test_what_dead_processes_left_on_the_disk_is_removed(resources: Resources) -> None:
    left, mine = (scratch_root(resources.settings) / owner for owner in (dead_owner(), new_owner()))
    for folder in (left, mine):
        folder.mkdir(parents=True)

    await remove_leftovers(resources)

    assert (left.exists(), mine.exists()) == (False, True)


async def test_what_dead_processes_stored_and_nobody_will_record_is_removed(
    resources: Resources, tmp_path: Path
) -> None:
    file, key = tmp_path / "file", "assets/a-1.png"
    file.write_bytes(b"picture")
    async with resources.sessions.begin() as session:
        session.add(UnrecordedFile(key=key, owner=dead_owner()))
        about = {datasets.OWNER: dead_owner()}
        session.add(Dataset(name="half", storage_path="half", is_processed=False, dataset_metadata=about))
    await resources.storage.put_file(key, file)

    await remove_leftovers(resources)

    assert await resources.storage.size(key) is None
    async with resources.sessions() as session:
        assert (await session.scalars(sa.select(Dataset))).all() == []


async def test_a_storage_that_does_not_answer_keeps_no_lost_job_waiting(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def never(_: str) -> None:
        asked.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(resources.storage, "delete", never)
    monkeypatch.setattr(reconciling, "INTERVAL_SECONDS", 0.05)
    async with resources.sessions.begin() as session:
        unrecorded.dismiss(session, "assets/a-1.png")
    task = asyncio.create_task(reconcile_forever(resources))
    try:
        await asked.wait()
        job_id = await owned_by(resources, dead_owner())
        await until_async(lambda: published(resources, job_id))
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_the_next_start_discards_an_upload_whose_process_died(resources: Resources) -> None:
    owners = {"dead": dead_owner(), "living": new_owner()}
    async with resources.sessions.begin() as session:
        for name, owner in owners.items():
            about = {datasets.OWNER: owner}
            session.add(Dataset(name=name, storage_path=name, is_processed=False, dataset_metadata=about))
        session.add(Dataset(name="finished", storage_path="finished", is_processed=True))

    assert await datasets.discard_abandoned(resources.sessions, resources.storage) == 1

    async with resources.sessions() as session:
        names = (await session.scalars(sa.select(col(Dataset.name)))).all()
    assert set(names) == {"living", "finished"}


async def test_reconciling_twice_changes_nothing_more(resources: Resources) -> None:
    job_id = await owned_by(resources, dead_owner())
    await reconcile(resources, lapsed=Lapsed(0))
    async with resources.sessions() as session:
        before = (await session.scalars(sa.select(Job))).all()

    await reconcile(resources, lapsed=Lapsed(0))

    async with resources.sessions() as session:
        assert (await session.scalars(sa.select(Job))).all() == before
    assert len(await published(resources, job_id)) == 1
