"""The outbox: what is to be told is written with the job's end, and told by one at a time until it is taken."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.db import Sessions
from api.domain.job import Kind
from api.domain.webhook import MAX_ATTEMPTS
from api.errors import ConflictError, EngineError, NotFoundError
from api.models import Job, Model, WebhookDelivery
from api.models.base import utcnow
from api.services import jobs, outbox, webhooks
from api.services.jobs import Lease
from tests.job_rows import add, expire, started, subject_of

URL = "https://me:hunter2@example.org:8443/hunter2?token=hunter2"
ENTRY = {"at": "2026-01-01T00:00:00+00:00", "seconds": 0.1, "status_code": 500, "error": None, "answer": "no"}
Deed = Callable[[AsyncSession, Lease], Awaitable[object]]


async def tell(sessions: Sessions, job_id: UUID, url: str | None = URL) -> None:
    async with sessions.begin() as session:
        await session.execute(sa.update(Job).where(col(Job.id) == job_id).values(webhook_url=url))


async def outgoing(sessions: Sessions) -> list[WebhookDelivery]:
    async with sessions() as session:
        return list(await session.scalars(sa.select(WebhookDelivery).order_by(col(WebhookDelivery.due_at))))


async def recorded(sessions: Sessions, *, receiver: str = "https://example.org", **values: Any) -> UUID:
    """A delivery that is due."""
    row = WebhookDelivery(job_id=uuid4(), type="image.completed", url=URL, receiver=receiver, body="{}", **values)
    async with sessions.begin() as session:
        session.add(row)
    return row.id


async def claimed(sessions: Sessions, *busy: str) -> WebhookDelivery | None:
    async with sessions.begin() as session:
        return await outbox.claim(session, busy)


async def settled(
    sessions: Sessions, delivery: WebhookDelivery, *, taken: bool = False, final: bool = False
) -> WebhookDelivery | None:
    async with sessions.begin() as session:
        return await outbox.settle(session, delivery, ENTRY, taken=taken, final=final)


async def set_values(sessions: Sessions, delivery_id: UUID, **values: Any) -> None:
    async with sessions.begin() as session:
        await session.execute(sa.update(WebhookDelivery).where(col(WebhookDelivery.id) == delivery_id).values(**values))


# ---- with the job's end --------------------------------------------------------------------------------------------


async def fail(session: AsyncSession, lease: Lease) -> None:
    await jobs.fail(session, lease, EngineError("It broke.", code="broken", hint="Mend it."))


async def give_up(session: AsyncSession, lease: Lease) -> None:
    await jobs.fail(session, lease, EngineError("It broke.", code="broken"), retryable=True)


ENDS: list[tuple[Deed, str]] = [
    (jobs.complete, "completed"),
    (jobs.cancel, "cancelled"),
    (fail, "failed"),
    (give_up, "failed"),
]


@pytest.mark.parametrize(("end", "status"), ENDS)
@pytest.mark.parametrize("kind", Kind)
async def test_every_end_of_a_job_is_to_be_told(sessions: Sessions, kind: Kind, end: Deed, status: str) -> None:
    lease = await started(sessions, kind=kind, max_attempts=1)
    await tell(sessions, lease.job_id)
    async with sessions.begin() as session:
        await end(session, lease)

    (row,) = await outgoing(sessions)
    subject = await subject_of(sessions, lease.job_id)
    assert subject is not None
    assert (row.type, row.status, row.attempt, row.url) == (f"{kind}.{status}", "pending", 0, URL)
    assert row.receiver == "https://example.org:8443"
    said = json.loads(row.body)
    assert said["type"] == row.type
    about = said["data"]
    assert (about["job_id"], about["status"]) == (str(lease.job_id), status)
    assert about[outbox.SUBJECT_NAME[kind]] == str(subject.id)
    assert about["error_code"] == ("broken" if status == "failed" else None)
    assert "hunter2" not in row.body


async def test_a_cancel_before_its_turn_and_a_lost_worker_are_to_be_told(sessions: Sessions) -> None:
    pending = await add(sessions, seconds_ago=-60)
    await tell(sessions, pending)
    async with sessions.begin() as session:
        await jobs.request_cancel(session, pending)
    lease = await started(sessions, max_attempts=1)
    await tell(sessions, lease.job_id)
    await expire(sessions, lease.job_id)

    told = {row.job_id: json.loads(row.body)["data"]["error_code"] for row in await outgoing(sessions)}
    assert told == {pending: None, lease.job_id: "worker_lost"}


async def test_a_training_tells_which_lora_it_made(sessions: Sessions) -> None:
    lease = await started(sessions, kind=Kind.TRAINING)
    await tell(sessions, lease.job_id)
    row = await subject_of(sessions, lease.job_id)
    assert row is not None
    model = Model(
        name="me", base_model="flux-tiny", storage_path="models/x", file_size_mb=1.0, training_session_id=row.id
    )
    async with sessions.begin() as session:
        session.add(model)
        await jobs.complete(session, lease)

    assert json.loads((await outgoing(sessions))[0].body)["data"]["model_id"] == str(model.id)


async def test_another_attempt_is_no_end(sessions: Sessions) -> None:
    lease = await started(sessions)
    await tell(sessions, lease.job_id)
    async with sessions.begin() as session:
        await give_up(session, lease)

    assert await outgoing(sessions) == []


async def test_a_job_that_is_to_tell_nobody_tells_nobody(sessions: Sessions) -> None:
    lease = await started(sessions)
    async with sessions.begin() as session:
        await jobs.complete(session, lease)

    assert await outgoing(sessions) == []


async def test_an_end_that_is_not_committed_is_not_told(sessions: Sessions) -> None:
    lease = await started(sessions)
    await tell(sessions, lease.job_id)
    async with sessions() as session:
        await jobs.complete(session, lease)
        await session.rollback()

    assert await outgoing(sessions) == []


async def test_a_retry_tells_whom_its_first_try_told(sessions: Sessions) -> None:
    lease = await started(sessions)
    await tell(sessions, lease.job_id)
    async with sessions.begin() as session:
        await fail(session, lease)
    async with sessions.begin() as session:
        again = await jobs.retry(session, lease.job_id)
        await jobs.request_cancel(session, again.id)

    first, second = [json.loads(row.body)["data"] for row in await outgoing(sessions)]
    assert (second["job_id"], second["retry_of"]) == (str(again.id), first["job_id"])


# ---- one attempt after another -------------------------------------------------------------------------------------


async def test_of_many_workers_one_delivers_it(sessions: Sessions) -> None:
    ids = {await recorded(sessions) for _ in range(3)}

    found = await asyncio.gather(*(claimed(sessions) for _ in range(8)))

    taken = [row.id for row in found if row is not None]
    assert len(taken) == len(set(taken))
    rest = [row.id for row in [await claimed(sessions) for _ in range(4)] if row is not None]
    assert {*taken, *rest} == ids
    assert len(taken) + len(rest) == 3


async def test_the_longest_due_is_first_and_busy_receivers_are_left_out(sessions: Sessions) -> None:
    now = utcnow()
    later = await recorded(sessions, receiver="https://b", due_at=now - timedelta(seconds=1))
    await recorded(sessions, receiver="https://a", due_at=now - timedelta(seconds=2))
    await recorded(sessions, receiver="https://c", due_at=now + timedelta(seconds=60))

    row = await claimed(sessions, "https://a")

    assert row is not None
    assert row.id == later
    assert await claimed(sessions, "https://a") is None


async def test_an_attempt_whose_worker_died_is_made_again_when_its_lease_is_over(sessions: Sessions) -> None:
    delivery_id = await recorded(sessions)
    lost = await claimed(sessions)
    assert lost is not None
    assert await claimed(sessions) is None
    await set_values(sessions, delivery_id, lease_until=utcnow() - timedelta(seconds=1))

    again = await claimed(sessions)

    assert again is not None
    assert (again.id, again.attempt) == (delivery_id, 2)
    assert await settled(sessions, lost, taken=True) is None
    assert (await outgoing(sessions))[0].status == "pending"


async def test_what_is_taken_is_delivered_for_good(sessions: Sessions) -> None:
    await recorded(sessions)
    row = await claimed(sessions)
    assert row is not None

    row = await settled(sessions, row, taken=True)

    assert row is not None
    assert (row.status, row.log, row.lease_until) == ("delivered", [ENTRY], None)
    assert row.finished_at is not None
    assert await claimed(sessions) is None


async def test_what_is_not_taken_is_tried_later_and_given_up_in_the_end(sessions: Sessions) -> None:
    delivery_id = await recorded(sessions)
    waits, row = [], None
    for number in range(1, MAX_ATTEMPTS + 1):
        row = await claimed(sessions)
        assert row is not None
        row = await settled(sessions, row)
        assert row is not None
        assert (row.attempt, len(row.log)) == (number, number)
        waits.append((row.due_at - utcnow()).total_seconds())
        assert await claimed(sessions) is None
        await set_values(sessions, delivery_id, due_at=utcnow())

    assert row is not None
    assert 3 < waits[0] < 7 < waits[1] < 26
    assert (row.status, row.finished_at is None) == ("failed", False)


async def test_a_final_refusal_is_not_tried_again(sessions: Sessions) -> None:
    await recorded(sessions)
    row = await claimed(sessions)
    assert row is not None

    row = await settled(sessions, row, final=True)

    assert row is not None
    assert (row.status, row.attempt) == ("failed", 1)


# ---- asked for again, forgotten ------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["delivered", "failed", "pending"])
async def test_whatever_became_of_it_it_can_be_delivered_again(sessions: Sessions, status: str) -> None:
    ended = None if status == "pending" else utcnow()
    delivery_id = await recorded(
        sessions, status=status, attempt=9, due_at=utcnow() + timedelta(hours=1), finished_at=ended, log=[ENTRY]
    )

    async with sessions.begin() as session:
        await webhooks.redeliver(session, delivery_id)

    row = await claimed(sessions)
    assert row is not None
    assert (row.id, row.status, row.attempt, row.finished_at, row.log) == (delivery_id, "pending", 1, None, [ENTRY])


async def test_what_is_being_sent_cannot_be_sent_beside_that(sessions: Sessions) -> None:
    delivery_id = await recorded(sessions)
    await claimed(sessions)

    async with sessions.begin() as session:
        with pytest.raises(ConflictError) as caught:
            await webhooks.redeliver(session, delivery_id)
        with pytest.raises(NotFoundError):
            await webhooks.redeliver(session, uuid4())

    assert caught.value.code == "delivery_active"


async def test_the_log_keeps_the_last_attempts_only(sessions: Sessions) -> None:
    await recorded(sessions, log=[{"old": number} for number in range(outbox.LOG_LENGTH)])
    row = await claimed(sessions)
    assert row is not None

    row = await settled(sessions, row)

    assert row is not None
    assert [row.log[0], row.log[-1], len(row.log)] == [{"old": 1}, ENTRY, outbox.LOG_LENGTH]


async def test_what_ended_long_ago_is_forgotten_and_nothing_else(sessions: Sessions) -> None:
    old, now = utcnow() - timedelta(days=8), utcnow()
    await recorded(sessions, status="delivered", finished_at=old)
    await recorded(sessions, status="failed", finished_at=old)
    kept = {
        await recorded(sessions, status="delivered", finished_at=now - timedelta(days=6)),
        await recorded(sessions, created_at=old),
    }

    async with sessions.begin() as session:
        await outbox.forget(session, days=7)

    assert {row.id for row in await outgoing(sessions)} == kept
