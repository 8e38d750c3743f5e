"""The life of a job on both databases: who gets it, who may change it, how it ends."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlmodel import col

from api.db import Sessions
from api.domain.job import LEASE_SECONDS, Kind, Queue, Status
from api.domain.progress import Snapshot
from api.errors import ConflictError, EngineError, NotFoundError, RetryableError
from api.models import Job
from api.models.base import utcnow
from api.services import job_change, jobs
from api.services.jobs import Lease, LeaseLostError
from api.services.turns import Turn, in_turn, next_pending, pending
from api.settings import Settings
from tests.job_rows import (
    add,
    assert_sound,
    claim,
    expire,
    let_lease_run_out,
    open_sessions,
    read,
    started,
    subject_of,
)

ERROR = EngineError("It broke.", code="broken", hint="Mend it.", log_tail="boom")


# ---- who is first ------------------------------------------------------------------------------------------------


async def test_the_oldest_is_first(sessions: Sessions) -> None:
    young, old = await add(sessions, seconds_ago=1), await add(sessions, seconds_ago=2)

    assert [await claim(sessions, owner) for owner in "abc"] == [old, young, None]


async def test_priority_goes_before_age(sessions: Sessions) -> None:
    old, urgent = await add(sessions, seconds_ago=300), await add(sessions, priority=1)

    assert [await claim(sessions, owner) for owner in "ab"] == [urgent, old]


async def test_what_needs_no_switch_of_loras_goes_before_age(sessions: Sessions) -> None:
    old, same = await add(sessions, affinity="x", seconds_ago=5), await add(sessions, affinity="y")

    assert [await claim(sessions, owner, affinity="y") for owner in "ab"] == [same, old]


async def test_nobody_waits_more_than_a_minute_for_the_sake_of_affinity(sessions: Sessions) -> None:
    patient, same = await add(sessions, affinity="x", seconds_ago=61), await add(sessions, affinity="y")

    assert [await claim(sessions, owner, affinity="y") for owner in "ab"] == [patient, same]


async def test_of_two_that_waited_too_long_the_older_is_first(sessions: Sessions) -> None:
    same, other = await add(sessions, affinity="y", seconds_ago=61), await add(sessions, seconds_ago=62)

    assert [await claim(sessions, owner, affinity="y") for owner in "ab"] == [other, same]


async def turns(sessions: Sessions, turn: Turn | None = None) -> list[UUID]:
    """All that wait, in the order of their turns, as each is taken away."""
    found: list[UUID] = []
    async with sessions() as session:
        while (best := await next_pending(session, Queue.GPU, turn or Turn())) is not None:
            await session.execute(sa.delete(Job).where(col(Job.id) == best.id))
            found.append(best.id)
    return found


async def test_a_training_in_the_queue_goes_before_younger_pictures(sessions: Sessions) -> None:
    training = await add(sessions, Kind.TRAINING, seconds_ago=2)
    picture = await add(sessions, seconds_ago=1)

    assert await turns(sessions) == [training, picture]


async def test_pictures_that_waited_while_a_training_ran_go_before_the_next_training(sessions: Sessions) -> None:
    first = await started(sessions, kind=Kind.TRAINING)
    next_one = await add(sessions, Kind.TRAINING, seconds_ago=5)
    waited = [await add(sessions, seconds_ago=4), await add(sessions, seconds_ago=3)]
    assert await turns_left(sessions) == [next_one, *waited]

    async with sessions.begin() as session:
        await jobs.complete(session, first)
    late = await add(sessions)

    assert await turns(sessions) == [*waited, next_one, late]


async def turns_left(sessions: Sessions, turn: Turn | None = None) -> list[UUID]:
    """The same with nothing taken away."""
    async with sessions() as session:
        rows = sa.select(col(Job.id)).where(*pending(Queue.GPU)).order_by(*in_turn(Queue.GPU, turn or Turn()))
        return list(await session.scalars(rows))


async def test_a_training_that_has_left_the_gpu_lets_the_pictures_through_while_its_lora_is_stored(
    sessions: Sessions,
) -> None:
    await started(sessions, kind=Kind.TRAINING)
    training, waited = await add(sessions, Kind.TRAINING, seconds_ago=5), await add(sessions, seconds_ago=4)
    left = Turn(training_left=utcnow())
    late = await add(sessions, seconds_ago=-1)

    assert await turns(sessions, left) == [waited, training, late]


async def test_a_training_that_never_ran_lets_nobody_through(sessions: Sessions) -> None:
    cancelled = await add(sessions, Kind.TRAINING, seconds_ago=9)
    training, picture = await add(sessions, Kind.TRAINING, seconds_ago=2), await add(sessions, seconds_ago=1)

    await cancel(sessions, cancelled)

    assert await turns(sessions) == [training, picture]


async def test_an_interrupted_training_goes_on_before_anything_else(sessions: Sessions) -> None:
    """Its trainer may still hold the GPU."""
    lease = await started(sessions, kind=Kind.TRAINING)
    old, urgent = await add(sessions, seconds_ago=300), await add(sessions, priority=1)
    async with sessions.begin() as session:
        await jobs.release(session, lease)

    assert await turns(sessions) == [lease.job_id, urgent, old]


async def test_beside_a_training_that_shares_the_next_training_holds_up_no_picture(sessions: Sessions) -> None:
    training = await add(sessions, Kind.TRAINING, priority=1, seconds_ago=9)
    pictures = [await add(sessions, seconds_ago=n) for n in (2, 1)]

    assert await turns(sessions, Turn(shares_with_training=True)) == [*pictures, training]


async def test_neither_pictures_nor_trainings_starve(sessions: Sessions) -> None:
    """New pictures arrive all the time, of the LoRA that is loaded; every training has its turn all the same."""
    trainings = [await add(sessions, Kind.TRAINING, seconds_ago=100 - n) for n in range(3)]
    order: list[str] = []
    while trainings:
        await add(sessions, affinity="x")
        job_id = await claim(sessions, "a", affinity="x")
        assert job_id is not None
        order.append("training" if job_id in trainings else "picture")
        async with sessions.begin() as session:
            await jobs.complete(session, Lease(job_id, "a"))
        if job_id in trainings:
            trainings.remove(job_id)
        assert len(order) < 20

    assert order == ["training", "picture", "training", "picture", "picture", "training"]


async def test_each_queue_has_its_own_jobs(sessions: Sessions) -> None:
    await add(sessions)

    async with sessions.begin() as session:
        assert await next_pending(session, Queue.CPU, Turn()) is None


async def test_many_claimers_at_once_get_each_job_once(
    sessions: Sessions, settings: Settings, database_url: str
) -> None:
    expected = {await add(sessions, seconds_ago=n) for n in range(30)}
    taken: Counter[UUID] = Counter()

    async def work(pool: Sessions, name: str) -> None:
        while (job_id := await claim(pool, f"{name}{len(taken)}")) is not None:
            taken[job_id] += 1

    async with open_sessions(settings, database_url) as others, asyncio.TaskGroup() as group:
        for n in range(4):
            group.create_task(work(sessions, f"a{n}-"))
            group.create_task(work(others, f"b{n}-"))

    assert taken == Counter(expected)


# ---- hold --------------------------------------------------------------------------------------------------------


async def test_a_claimed_job_runs_under_a_lease_that_renewing_extends(sessions: Sessions) -> None:
    lease = await started(sessions)
    first = await read(sessions, lease.job_id)
    assert (first.status, first.lease_owner) == ("running", "a")
    assert first.lease_until is not None
    assert timedelta(0) < first.lease_until - utcnow() <= timedelta(seconds=LEASE_SECONDS)

    async with sessions.begin() as session:
        assert await jobs.renew(session, ["a", "nobody"]) == {"a": None}

    second = await read(sessions, lease.job_id)
    assert second.lease_until is not None
    assert second.lease_until > first.lease_until
    await assert_sound(sessions, lease.job_id)


async def test_renewing_nothing_asks_nothing(sessions: Sessions) -> None:
    async with sessions.begin() as session:
        assert await jobs.renew(session, []) == {}


async def test_renewing_tells_when_the_cancel_was_asked_for(sessions: Sessions) -> None:
    lease = await started(sessions)
    async with sessions.begin() as session:
        asked = (await jobs.request_cancel(session, lease.job_id)).cancel_requested_at

    async with sessions.begin() as session:
        assert await jobs.renew(session, ["a"]) == {"a": asked}


async def test_a_trainings_progress_is_seen_on_its_session(sessions: Sessions) -> None:
    lease = await started(sessions, kind=Kind.TRAINING)
    snapshot = Snapshot(status="training", progress=12.34, step=5, total_steps=40, loss=0.5, eta_seconds=9.0)

    async with sessions.begin() as session:
        await jobs.save_progress(session, lease, snapshot)

    row = await subject_of(sessions, lease.job_id)
    assert row is not None
    seen = row.model_dump(include={"status", "progress", "current_step", "total_steps", "current_loss"})
    assert seen == {"status": "training", "progress": 12.3, "current_step": 5, "total_steps": 40, "current_loss": 0.5}
    await assert_sound(sessions, lease.job_id)


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
async def test_a_loss_that_ran_away_and_strange_characters_can_be_stored(sessions: Sessions, loss: float) -> None:
    lease = await started(sessions, kind=Kind.TRAINING)

    async with sessions.begin() as session:
        snapshot = Snapshot(status="training", message="a\0b\ud800", loss=loss, learning_rate=loss, eta_seconds=loss)
        await jobs.save_progress(session, lease, snapshot)
    async with sessions.begin() as session:
        job = await jobs.fail(session, lease, EngineError("a\0b\ud800", log_tail="\0tail"))

    assert (job.progress["loss"], job.progress["message"]) == (None, "ab?")
    assert (job.error_message, job.log_tail) == ("ab?", "tail")
    await assert_sound(sessions, lease.job_id)


# ---- ends --------------------------------------------------------------------------------------------------------


async def test_a_completed_training_is_complete_to_the_last_percent(sessions: Sessions) -> None:
    lease = await started(sessions, kind=Kind.TRAINING)

    async with sessions.begin() as session:
        job = await jobs.complete(session, lease)

    assert (job.status, jobs.snapshot_of(job).progress) == ("completed", 100.0)
    await assert_sound(sessions, lease.job_id)


async def test_a_failed_job_says_what_happened_and_what_to_do(sessions: Sessions) -> None:
    lease = await started(sessions)

    async with sessions.begin() as session:
        job = await jobs.fail(session, lease, ERROR)

    assert (job.status, job.error_code, job.error_message) == ("failed", "broken", "It broke.")
    assert (job.error_hint, job.log_tail) == ("Mend it.", "boom")
    shown = jobs.snapshot_of(job)
    assert (shown.stage, shown.message, shown.hint) == ("failed", "It broke.", "Mend it.")
    await assert_sound(sessions, lease.job_id)


async def test_a_retryable_failure_is_tried_again_until_the_attempts_are_used_up(sessions: Sessions) -> None:
    lease = await started(sessions, max_attempts=2)
    error = RetryableError("The engine died.", code="engine_died", hint="Wait.")

    async with sessions.begin() as session:
        again = await jobs.fail(session, lease, error, retryable=True)
    assert (again.status, again.attempt, again.error_code) == ("pending", 2, None)
    assert jobs.snapshot_of(again).stage == "waiting"

    assert await claim(sessions, "b") == lease.job_id
    async with sessions.begin() as session:
        given_up = await jobs.fail(session, Lease(lease.job_id, "b"), error, retryable=True)
    assert (given_up.status, given_up.error_code, given_up.error_hint) == ("failed", "engine_died", "Wait.")
    await assert_sound(sessions, lease.job_id)


async def test_what_a_worker_gives_back_keeps_its_attempt_and_its_first_start(sessions: Sessions) -> None:
    lease = await started(sessions)
    first = await read(sessions, lease.job_id)

    async with sessions.begin() as session:
        job = await jobs.release(session, lease)
    assert (job.status, job.attempt) == ("pending", 1)
    await assert_sound(sessions, lease.job_id)

    assert await claim(sessions, "b") == lease.job_id
    assert (await read(sessions, lease.job_id)).started_at == first.started_at


async def test_a_job_whose_workers_keep_dying_is_put_out_of_the_way(sessions: Sessions) -> None:
    job_id = await add(sessions, max_attempts=3)

    for attempt in (1, 2, 3):
        assert (await read(sessions, job_id)).attempt == attempt
        assert await claim(sessions, f"worker {attempt}") == job_id
        assert await expire(sessions, job_id) is not None
        await assert_sound(sessions, job_id)

    job = await read(sessions, job_id)
    assert (job.status, job.error_code, job.attempt) == ("failed", "worker_lost", 3)
    assert await claim(sessions, "worker 4") is None


async def test_a_lease_renewed_since_it_was_judged_is_not_ended(sessions: Sessions) -> None:
    lease = await started(sessions)
    await let_lease_run_out(sessions, lease.job_id)
    judged = await read(sessions, lease.job_id)
    async with sessions.begin() as session:
        await jobs.renew(session, ["a"])

    async with sessions.begin() as session:
        assert await jobs.expire(session, judged) is None

    assert (await read(sessions, lease.job_id)).lease_owner == "a"


async def test_nothing_expires_that_does_not_run(sessions: Sessions) -> None:
    assert await expire(sessions, await add(sessions)) is None


# ---- fencing -----------------------------------------------------------------------------------------------------

Deed = Callable[[Sessions, Lease], Awaitable[object]]


async def _progress(sessions: Sessions, lease: Lease) -> None:
    async with sessions.begin() as session:
        await jobs.save_progress(session, lease, Snapshot(status="generating", step=9))


async def _complete(sessions: Sessions, lease: Lease) -> None:
    async with sessions.begin() as session:
        await jobs.complete(session, lease)


async def _cancel(sessions: Sessions, lease: Lease) -> None:
    async with sessions.begin() as session:
        await jobs.cancel(session, lease)


async def _fail(sessions: Sessions, lease: Lease) -> None:
    async with sessions.begin() as session:
        await jobs.fail(session, lease, ERROR)


async def _fail_retryably(sessions: Sessions, lease: Lease) -> None:
    async with sessions.begin() as session:
        await jobs.fail(session, lease, ERROR, retryable=True)


async def _release(sessions: Sessions, lease: Lease) -> None:
    async with sessions.begin() as session:
        await jobs.release(session, lease)


DEEDS: list[Deed] = [_progress, _complete, _cancel, _fail, _fail_retryably, _release]


async def _lost(sessions: Sessions) -> list[Lease]:
    """A lease for each way to lose one, and one that never was."""
    reclaimed = await started(sessions, "a")
    await expire(sessions, reclaimed.job_id)
    assert await claim(sessions, "b") == reclaimed.job_id
    ended = await started(sessions, "c")
    await _cancel(sessions, ended)
    others = await started(sessions, "d")
    requeued = await started(sessions, "e")
    await expire(sessions, requeued.job_id)
    return [reclaimed, ended, Lease(others.job_id, "somebody else"), requeued]


@pytest.mark.parametrize("deed", DEEDS)
async def test_an_attempt_that_lost_its_lease_changes_nothing(sessions: Sessions, deed: Deed) -> None:
    lost = await _lost(sessions)
    before = [await read(sessions, lease.job_id) for lease in lost]
    assert [job.status for job in before] == ["running", "cancelled", "running", "pending"]

    for lease in lost:
        with pytest.raises(LeaseLostError):
            await deed(sessions, lease)

    assert [await read(sessions, lease.job_id) for lease in lost] == before


# ---- cancel ------------------------------------------------------------------------------------------------------


async def cancel(sessions: Sessions, job_id: UUID) -> Job:
    async with sessions.begin() as session:
        return await jobs.request_cancel(session, job_id)


async def test_a_pending_job_is_cancelled_at_once_and_never_starts(sessions: Sessions) -> None:
    job_id = await add(sessions)

    assert (await cancel(sessions, job_id)).status == "cancelled"

    assert await claim(sessions, "a") is None
    await assert_sound(sessions, job_id)


async def test_a_running_job_is_asked_to_stop_once(sessions: Sessions) -> None:
    lease = await started(sessions)

    first, second = await cancel(sessions, lease.job_id), await cancel(sessions, lease.job_id)

    assert first.status == second.status == "running"
    assert first.cancel_requested_at == second.cancel_requested_at is not None


async def test_cancelling_a_cancelled_job_changes_nothing(sessions: Sessions) -> None:
    job_id = await add(sessions)
    first = await cancel(sessions, job_id)

    assert await cancel(sessions, job_id) == first


@pytest.mark.parametrize("end", [_complete, _fail])
async def test_what_has_ended_otherwise_cannot_be_cancelled(sessions: Sessions, end: Deed) -> None:
    lease = await started(sessions)
    await end(sessions, lease)

    with pytest.raises(ConflictError) as caught:
        await cancel(sessions, lease.job_id)

    assert caught.value.code == "job_finished"


async def test_an_unknown_job_cannot_be_cancelled_or_retried(sessions: Sessions) -> None:
    with pytest.raises(NotFoundError):
        await cancel(sessions, uuid4())
    with pytest.raises(NotFoundError):
        await retry(sessions, uuid4())


async def _expire(sessions: Sessions, lease: Lease) -> None:
    assert await expire(sessions, lease.job_id) is not None


@pytest.mark.parametrize("max_attempts", [1, 3])
@pytest.mark.parametrize("end", [_release, _fail_retryably, _expire])
async def test_a_wish_to_cancel_wins_over_another_attempt(sessions: Sessions, end: Deed, max_attempts: int) -> None:
    lease = await started(sessions, max_attempts=max_attempts)
    await cancel(sessions, lease.job_id)

    await end(sessions, lease)

    job = await read(sessions, lease.job_id)
    assert (job.status, job.error_code) == ("cancelled", None)
    await assert_sound(sessions, lease.job_id)


@pytest.mark.parametrize("end", [_release, _fail_retryably, _expire, _complete])
async def test_a_cancel_that_races_with_an_end_is_never_lost(sessions: Sessions, end: Deed) -> None:
    """Whatever comes first: the job has ended, or nobody asked it to."""
    for _ in range(10):
        lease = await started(sessions)

        async def ask(job_id: UUID) -> None:
            with suppress(ConflictError):
                await cancel(sessions, job_id)

        await asyncio.gather(ask(lease.job_id), end(sessions, lease))

        assert (await read(sessions, lease.job_id)).status in ("cancelled", "completed")
        await assert_sound(sessions, lease.job_id)


async def test_a_cancel_that_races_with_a_claim_stops_it_or_is_heard(sessions: Sessions) -> None:
    for n in range(10):
        job_id = await add(sessions)
        owner = f"worker {n}"

        cancelled, claimed = await asyncio.gather(cancel(sessions, job_id), claim(sessions, owner))

        async with sessions.begin() as session:
            heard = (await jobs.renew(session, [owner])).get(owner)
        assert (cancelled.status, claimed, heard) in (
            ("cancelled", None, None),
            ("running", job_id, cancelled.cancel_requested_at),
        )
        await assert_sound(sessions, job_id)
        if claimed is not None:
            await _cancel(sessions, Lease(job_id, owner))


# ---- retry -------------------------------------------------------------------------------------------------------


async def retry(sessions: Sessions, job_id: UUID) -> Job:
    async with sessions.begin() as session:
        return await jobs.retry(session, job_id)


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("end", [_fail, _cancel])
async def test_a_retry_is_a_new_job_for_the_same_row(sessions: Sessions, kind: Kind, end: Deed) -> None:
    lease = await started(sessions, kind=kind)
    async with sessions.begin() as session:
        await jobs.save_progress(session, lease, Snapshot(status="training", progress=40, step=4, loss=1.0))
    await end(sessions, lease)
    old, row = await read(sessions, lease.job_id), await subject_of(sessions, lease.job_id)
    assert row is not None

    new = await retry(sessions, lease.job_id)

    assert (new.status, new.attempt, new.retry_of) == ("pending", 1, lease.job_id)
    assert await read(sessions, lease.job_id) == old
    moved = await subject_of(sessions, new.id)
    assert moved is not None
    assert (moved.id, moved.status, moved.error_message) == (row.id, "pending", None)
    await assert_sound(sessions, new.id)
    assert await claim(sessions, "b", queue=kind.queue) == new.id


@pytest.mark.parametrize("status", [Status.PENDING, Status.RUNNING, Status.COMPLETED])
async def test_only_what_failed_or_was_cancelled_can_be_retried(sessions: Sessions, status: Status) -> None:
    job_id = await add(sessions)
    if status is not Status.PENDING:
        await claim(sessions, "a")
    if status is Status.COMPLETED:
        await _complete(sessions, Lease(job_id, "a"))

    with pytest.raises(ConflictError) as caught:
        await retry(sessions, job_id)

    assert caught.value.code == "job_not_retryable"


async def test_of_many_retries_at_once_one_makes_a_job(sessions: Sessions) -> None:
    lease = await started(sessions)
    await _fail(sessions, lease)

    outcomes = await asyncio.gather(*(retry(sessions, lease.job_id) for _ in range(8)), return_exceptions=True)

    refused = [outcome for outcome in outcomes if isinstance(outcome, ConflictError)]
    assert (len(outcomes), len(refused)) == (8, 7)
    assert {error.code for error in refused} == {"job_superseded"}
    async with sessions() as session:
        assert await session.scalar(sa.select(sa.func.count()).where(col(Job.retry_of) == lease.job_id)) == 1


async def test_a_change_that_no_job_ever_makes_is_a_bug(sessions: Sessions) -> None:
    job_id = await add(sessions)
    async with sessions.begin() as session:
        with pytest.raises(RuntimeError, match="pending to completed"):
            await job_change.change(session, job_id, Status.PENDING, Status.COMPLETED)
