"""The dispatcher on a real Valkey and SQLite: who runs when, who is stopped, and how every attempt ends."""

import asyncio
import errno
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from uuid import UUID

import pytest
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from api.domain.gpu_gate import Memory, Use
from api.domain.job import Kind, Queue, StopReason
from api.errors import EngineError, MasukaError, RetryableError
from api.queue import CANCEL_CHANNEL
from api.resources import Resources
from api.services import jobs
from api.services.turns import Pending, Turn, next_pending
from api.tasks import admission, dispatch
from api.tasks.attempt import Attempt
from api.tasks.dispatch import Dispatcher
from tests.job_rows import add, assert_sound, claim, expire, read
from tests.service import with_values
from tests.tasks.stage import Stage, complete, failing, leave_gpu, nothing_to_record, on_duty, published
from tests.waiting import until, until_async

NEVER_SECONDS = 3600.0


async def submit(resources: Resources, kind: Kind = Kind.IMAGE, *, seconds_ago: float = 0) -> UUID:
    job_id = await add(resources.sessions, kind, seconds_ago=seconds_ago)
    await resources.queue.ring(Queue.GPU)
    return job_id


async def ended(resources: Resources, job_id: UUID) -> str:
    """How the job ended, once its end is both written and told."""

    async def written_and_told() -> bool:
        told, job = await published(resources, job_id), await read(resources.sessions, job_id)
        return job.finished_at is not None and told[-1:] != [] and told[-1]["status"] == job.status

    await until_async(written_and_told)
    await assert_sound(resources.sessions, job_id)
    return (await read(resources.sessions, job_id)).status


# ---- who runs when -----------------------------------------------------------------------------------------------


async def test_two_pictures_run_at_once_and_the_third_when_one_has_left_the_gpu(
    resources: Resources, dispatcher: Dispatcher, stage: Stage
) -> None:
    first, second, third = [await submit(resources, seconds_ago=10 - n) for n in range(3)]
    await stage.entered(first, second)

    await stage.cue(first, leave_gpu)  # its file is being stored

    await stage.entered(first, second, third)
    for job_id in (first, second, third):
        await stage.cue(job_id, complete)
        assert await ended(resources, job_id) == "completed"


async def test_a_training_waits_until_the_gpu_is_empty_and_then_is_alone(
    resources: Resources, dispatcher: Dispatcher, stage: Stage
) -> None:
    picture = await submit(resources, seconds_ago=3)
    await stage.entered(picture)
    training = await submit(resources, Kind.TRAINING, seconds_ago=2)
    late = await submit(resources, seconds_ago=1)
    await dispatcher.pump()
    assert stage.running.keys() == {picture}

    await stage.cue(picture, complete)
    await stage.entered(training)
    await dispatcher.pump()
    assert stage.running.keys() == {training}

    await stage.cue(training, complete)
    await stage.entered(late)


async def test_pictures_that_waited_go_before_the_next_training_while_the_lora_of_the_last_is_stored(
    resources: Resources, dispatcher: Dispatcher, stage: Stage
) -> None:
    first = await submit(resources, Kind.TRAINING)
    await stage.entered(first)
    await submit(resources, Kind.TRAINING, seconds_ago=2)
    picture = await submit(resources, seconds_ago=1)

    await stage.cue(first, leave_gpu)

    await stage.entered(first, picture)


async def test_whose_turn_it_is_is_looked_up_again_when_a_training_left_meanwhile(
    resources: Resources, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatcher = Dispatcher(resources, Queue.GPU, dict.fromkeys(Kind, stage.run))
    first = await add(resources.sessions, Kind.TRAINING)
    await dispatcher.pump()
    await stage.entered(first)
    await add(resources.sessions, Kind.TRAINING, seconds_ago=2)
    picture = await add(resources.sessions, seconds_ago=1)

    async def leaving(session: AsyncSession, queue: Queue, turn: Turn) -> Pending | None:
        found = await next_pending(session, queue, turn)
        stage.running[first].release_gpu()
        return found

    monkeypatch.setattr(admission, "next_pending", leaving)
    await dispatcher.pump()

    await stage.entered(first, picture)
    await dispatcher.close()


NEEDS_GB = {Kind.IMAGE: 2.0, Kind.TRAINING: 8.0}


@asynccontextmanager
async def sharing(resources: Resources, stage: Stage, free_gb: float) -> AsyncIterator[Dispatcher]:
    """A worker whose GPU is shared, with so much memory free whatever runs."""

    async def survey(job: Pending, _: str | None) -> Use:
        return Use(job.id, job.kind, NEEDS_GB[job.kind], Memory(free_gb))

    shared = replace(resources, settings=with_values(resources.settings, masuka_gpu_policy="share"))
    dispatcher = Dispatcher(shared, Queue.GPU, dict.fromkeys(Kind, stage.run), survey)
    async with on_duty(dispatcher):
        yield dispatcher


async def test_with_memory_for_both_one_picture_at_a_time_is_drawn_beside_a_training(
    resources: Resources, stage: Stage
) -> None:
    async with sharing(resources, stage, 20) as dispatcher:
        training = await submit(resources, Kind.TRAINING)
        await stage.entered(training)
        await submit(resources, Kind.TRAINING, seconds_ago=9)
        first, second = [await submit(resources, seconds_ago=2 - n) for n in range(2)]
        await stage.entered(training, first)
        await dispatcher.pump()
        assert stage.running.keys() == {training, first}
        assert dispatcher.state()["gpu"]["mode"] == "shared"

        await stage.cue(first, complete)

        await stage.entered(training, second)


async def test_without_memory_for_both_a_picture_waits_for_the_training_and_a_training_for_the_picture(
    resources: Resources, stage: Stage
) -> None:
    async with sharing(resources, stage, 9) as dispatcher:
        training, picture = await submit(resources, Kind.TRAINING, seconds_ago=2), await submit(resources)
        await stage.entered(training)
        await dispatcher.pump()
        assert stage.running.keys() == {training}
        assert dispatcher.state()["gpu"]["mode"] == "alone"
        await stage.cue(training, complete)
        await stage.entered(picture)
        again = await submit(resources, Kind.TRAINING)
        await dispatcher.pump()
        assert stage.running.keys() == {picture}

        await stage.cue(picture, complete)

        await stage.entered(again)


async def test_a_bell_is_enough_to_start_work(
    resources: Resources, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "LOOK_SECONDS", NEVER_SECONDS)
    dispatcher = Dispatcher(resources, Queue.GPU, {Kind.IMAGE: stage.run})
    async with on_duty(dispatcher):
        job_id = await submit(resources)
        await stage.entered(job_id)


async def test_work_is_found_without_a_bell(resources: Resources, dispatcher: Dispatcher, stage: Stage) -> None:
    job_id = await add(resources.sessions)

    await stage.entered(job_id)


# ---- how attempts end --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EngineError("It broke.", code="broken"), "broken"),
        (ZeroDivisionError(), "internal_error"),
        (ExceptionGroup("several", [EngineError("It broke.", code="broken"), ValueError()]), "broken"),
    ],
)
async def test_what_a_runner_raises_ends_its_job_with_a_code(
    resources: Resources, dispatcher: Dispatcher, stage: Stage, error: Exception, code: str
) -> None:
    job_id = await submit(resources)

    await stage.cue(job_id, failing(error))

    assert await ended(resources, job_id) == "failed"
    assert (await published(resources, job_id))[-1]["error_code"] == code
    assert stage.started == [(job_id, 1)]


async def test_a_runner_that_ends_without_an_outcome_is_a_bug(resources: Resources) -> None:
    async def do_nothing(_: Attempt) -> None:
        return None

    async with on_duty(Dispatcher(resources, Queue.GPU, {Kind.IMAGE: do_nothing})):
        job_id = await submit(resources)
        assert await ended(resources, job_id) == "failed"

    assert (await read(resources.sessions, job_id)).error_code == "internal_error"


@pytest.mark.parametrize(
    "error",
    [
        RetryableError("The engine died.", code="engine_died"),
        OSError(errno.ENOSPC, "No space left on device"),
        EngineError("SaveImage found the disk full.", code="disk_full"),
        ConnectionRefusedError("no database"),
        OperationalError("SELECT", {}, OSError("gone")),
    ],
)
async def test_what_may_go_better_is_tried_again_at_once(
    resources: Resources, dispatcher: Dispatcher, stage: Stage, error: Exception
) -> None:
    job_id = await submit(resources)

    await stage.cue(job_id, failing(error))
    await until(lambda: len(stage.started) == 2)
    await stage.cue(job_id, complete)

    assert await ended(resources, job_id) == "completed"
    assert stage.started == [(job_id, 1), (job_id, 2)]


async def test_after_the_last_attempt_the_job_has_failed(
    resources: Resources, dispatcher: Dispatcher, stage: Stage
) -> None:
    job_id = await submit(resources)

    for attempt in (1, 2, 3):
        await until(partial(has_started, stage, attempt))
        await stage.cue(job_id, failing(RetryableError("The engine died.", code="engine_died")))

    assert await ended(resources, job_id) == "failed"
    assert (await read(resources.sessions, job_id)).error_code == "engine_died"


def has_started(stage: Stage, times: int) -> bool:
    return len(stage.started) == times


# ---- who is stopped ----------------------------------------------------------------------------------------------


async def test_a_cancel_is_heard_without_a_heartbeat_and_stops_only_that_job(
    resources: Resources, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "HEARTBEAT_SECONDS", NEVER_SECONDS)
    async with on_duty(Dispatcher(resources, Queue.GPU, {Kind.IMAGE: stage.run})):
        cancelled, other = await submit(resources), await submit(resources)
        await stage.entered(cancelled, other)
        await listening(resources)

        async with resources.sessions.begin() as session:
            await jobs.request_cancel(session, cancelled)
        await resources.queue.announce_cancel(cancelled)
        assert await ended(resources, cancelled) == "cancelled"

        assert stage.running.keys() == {other}


async def listening(resources: Resources) -> None:
    """Until the dispatcher hears cancels."""
    await until_async(lambda: _listeners(resources))


async def _listeners(resources: Resources) -> int:
    return int((await resources.redis.pubsub_numsub(CANCEL_CHANNEL))[0][1])


async def test_a_cancel_that_nobody_announced_is_found_by_the_heartbeat(
    resources: Resources, dispatcher: Dispatcher, stage: Stage
) -> None:
    job_id = await submit(resources)
    await stage.entered(job_id)

    async with resources.sessions.begin() as session:
        await jobs.request_cancel(session, job_id)

    assert await ended(resources, job_id) == "cancelled"


async def test_junk_on_the_cancel_channel_does_no_harm(
    resources: Resources, dispatcher: Dispatcher, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "RECONNECT_SECONDS", 0.01)
    await listening(resources)

    await resources.queue.announce_cancel("junk")
    await resources.queue.announce_cancel(UUID(int=0))

    job_id = await submit(resources)
    await stage.cue(job_id, complete)
    assert await ended(resources, job_id) == "completed"


async def test_an_attempt_whose_job_was_given_to_another_stops_and_writes_nothing(
    resources: Resources, dispatcher: Dispatcher, stage: Stage
) -> None:
    job_id = await submit(resources)
    await stage.entered(job_id)
    attempt = stage.running[job_id]
    async with dispatcher._claiming:  # this dispatcher must not be the other one
        assert await expire(resources.sessions, job_id) is not None
        assert await claim(resources.sessions, "another") == job_id
        before = await read(resources.sessions, job_id)

    await dispatcher.renew()

    await until(lambda: not stage.running)
    assert attempt.stop_reason is StopReason.LEASE_LOST
    await until(lambda: not dispatcher.attempts)
    after = await read(resources.sessions, job_id)
    assert (after.status, after.lease_owner, after.attempt) == (before.status, "another", 2)


async def test_a_shutdown_hands_jobs_back_as_they_were(resources: Resources, stage: Stage) -> None:
    async with on_duty(Dispatcher(resources, Queue.GPU, {Kind.IMAGE: stage.run})):
        job_id = await submit(resources)
        await stage.entered(job_id)

    job = await read(resources.sessions, job_id)
    assert (job.status, job.attempt, job.lease_owner) == ("pending", 1, None)
    assert (await published(resources, job_id))[-1]["status"] == "pending"


async def test_nothing_is_claimed_after_the_shutdown_began(resources: Resources, stage: Stage) -> None:
    dispatcher = Dispatcher(resources, Queue.GPU, {Kind.IMAGE: stage.run})
    job_ids = [await add(resources.sessions) for _ in range(2)]

    await asyncio.gather(dispatcher.pump(), dispatcher.close())
    await dispatcher.pump()

    assert not dispatcher.attempts
    assert {(await read(resources.sessions, job_id)).status for job_id in job_ids} == {"pending"}


# ---- too late to stop --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", list(StopReason))
async def test_nothing_stops_an_attempt_while_its_completion_is_written(
    resources: Resources, dispatcher: Dispatcher, stage: Stage, reason: StopReason
) -> None:
    job_id = await submit(resources)
    await stage.entered(job_id)
    attempt, written = stage.running[job_id], asyncio.Event()

    async def record(_: AsyncSession) -> None:
        attempt.stop(reason)
        written.set()
        await asyncio.sleep(0)

    await stage.cue(job_id, lambda attempt: attempt.complete(record))

    await written.wait()
    assert await ended(resources, job_id) == "completed"


async def test_nothing_stops_an_attempt_while_its_failure_is_written(
    resources: Resources, dispatcher: Dispatcher, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await submit(resources)
    await stage.entered(job_id)
    attempt, fail = stage.running[job_id], jobs.fail

    async def fail_slowly(session: AsyncSession, lease: jobs.Lease, error: MasukaError, *, retryable: bool) -> object:
        attempt.stop(StopReason.SHUTDOWN)
        await asyncio.sleep(0)
        return await fail(session, lease, error, retryable=retryable)

    monkeypatch.setattr(jobs, "fail", fail_slowly)
    await stage.cue(job_id, failing(EngineError("It broke.", code="broken")))

    assert await ended(resources, job_id) == "failed"


async def test_a_completion_whose_results_cannot_be_written_is_tried_again(
    resources: Resources, dispatcher: Dispatcher, stage: Stage
) -> None:
    async def record(_: AsyncSession) -> None:
        raise OperationalError("INSERT", {}, OSError("gone"))

    job_id = await submit(resources)
    await stage.cue(job_id, lambda attempt: attempt.complete(record))
    await until(lambda: len(stage.started) == 2)

    assert (await read(resources.sessions, job_id)).progress["progress"] == 0
    await stage.cue(job_id, lambda attempt: attempt.complete(nothing_to_record))
    assert await ended(resources, job_id) == "completed"


# ---- progress ----------------------------------------------------------------------------------------------------


async def test_progress_is_told_ten_times_a_second_and_kept_once(
    resources: Resources, dispatcher: Dispatcher, stage: Stage
) -> None:
    async def report(attempt: Attempt) -> None:
        for step in range(1000):
            await attempt.progress(step=step, message=f"Step {step}")

    job_id = await submit(resources)
    began = time.monotonic()
    await stage.cue(job_id, report)
    await stage.cue(job_id, complete)
    assert await ended(resources, job_id) == "completed"
    seconds = time.monotonic() - began

    told = await published(resources, job_id)
    assert len(told) <= 10 * seconds + 5
    assert (told[-1]["status"], told[-1]["step"], told[-1]["progress"]) == ("completed", 999, 100.0)
    assert (await read(resources.sessions, job_id)).progress["step"] == 999


async def test_what_is_urgent_is_told_and_kept_at_once(
    resources: Resources, dispatcher: Dispatcher, stage: Stage
) -> None:
    async def report(attempt: Attempt) -> None:
        for stage_name in ("loading", "queued"):
            await attempt.progress(urgent=True, stage=stage_name)
            assert (await published(resources, attempt.job_id))[-1]["stage"] == stage_name
            assert (await read(resources.sessions, attempt.job_id)).progress["stage"] == stage_name

    job_id = await submit(resources)
    await stage.cue(job_id, report)
    await stage.cue(job_id, complete)
    assert await ended(resources, job_id) == "completed"
