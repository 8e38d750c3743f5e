"""Webhooks on their way to real receivers: good, dead, slow, unwilling, and those that lead astray."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from sqlmodel import col
from structlog.testing import capture_logs

from api import courier
from api.models import Job, WebhookDelivery
from api.models.base import utcnow
from api.resources import Resources, open_resources
from api.services import jobs
from api.settings import PROJECT_ROOT, Settings
from api.tasks import deliver
from api.tasks.deliver import deliver_forever
from tests.job_rows import nothing_waits, started
from tests.receiver import SECRET, Reply, receiving
from tests.service import with_values
from tests.up_process import READY_SECONDS, environment
from tests.waiting import until, until_async


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_values(settings, masuka_webhook_secret=SecretStr(SECRET), masuka_webhook_private=True)


@asynccontextmanager
async def delivering(resources: Resources) -> AsyncIterator[None]:
    """What the cpu worker does about webhooks."""
    task = asyncio.create_task(deliver_forever(resources))
    try:
        yield
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.wait({task})


async def ended(resources: Resources, url: str) -> UUID:
    """A picture that is done, which is to be told there."""
    lease = await started(resources.sessions)
    async with resources.sessions.begin() as session:
        await session.execute(sa.update(Job).where(col(Job.id) == lease.job_id).values(webhook_url=url))
    async with resources.sessions.begin() as session:
        await jobs.complete(session, lease)
    return lease.job_id


async def row_of(resources: Resources, job_id: UUID) -> WebhookDelivery:
    async with resources.sessions() as session:
        query = sa.select(WebhookDelivery).where(col(WebhookDelivery.job_id) == job_id)
        return (await session.scalars(query)).one()


async def tried(resources: Resources, job_id: UUID, times: int = 1) -> WebhookDelivery:
    """The delivery, once it was tried so often."""

    async def done() -> bool:
        return len((await row_of(resources, job_id)).log) >= times

    await until_async(done)
    return await row_of(resources, job_id)


async def let_time_pass(resources: Resources) -> None:
    """Whatever waits is due, and no lease is left."""
    async with resources.sessions.begin() as session:
        past = utcnow() - timedelta(seconds=1)
        await session.execute(sa.update(WebhookDelivery).values(due_at=past))
        leased = col(WebhookDelivery.lease_until).is_not(None)
        await session.execute(sa.update(WebhookDelivery).where(leased).values(lease_until=past))


async def only(resources: Resources, url: str) -> dict[str, Any]:
    """What the log has of the one attempt to tell a job's end there, and what became of it."""
    row = await tried(resources, await ended(resources, url))
    return {"state": row.status, **row.log[0]}


def leads_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """`hooks.example` leads to these; the list has every name that is looked up from now on."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def look_up(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host != "hooks.example":
            return real(host, port, *args, **kwargs)
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked


# ---- what a receiver gets ------------------------------------------------------------------------------------------


async def test_a_receiver_is_told_once_in_words_that_it_can_verify(resources: Resources) -> None:
    async with receiving() as receiver, delivering(resources):
        job_id = await ended(resources, receiver.url(path="/hook?token=1"))
        row = await tried(resources, job_id)

    (got,) = receiver.got
    said = got.verified()
    assert (said["type"], said["data"]["job_id"]) == ("image.completed", str(job_id))
    assert got.target == "/hook?token=1"
    assert got.headers["webhook-id"] == str(row.id)
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert got.headers["content-type"] == "application/json"
    assert (row.status, row.attempt, row.log[0]["status_code"]) == ("delivered", 1, 204)


async def test_one_that_fails_is_told_again_later_under_the_same_id(resources: Resources) -> None:
    async with receiving(Reply(500, body=b"no \x00 \xff"), Reply(200)) as receiver, delivering(resources):
        job_id = await ended(resources, receiver.url())
        row = await tried(resources, job_id)
        assert (row.status, row.log[0]["status_code"], row.log[0]["answer"]) == ("pending", 500, "no  \ufffd")
        assert row.due_at > utcnow()
        await let_time_pass(resources)
        row = await tried(resources, job_id, times=2)

    assert (row.status, row.attempt) == ("delivered", 2)
    first, second = receiver.got
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.verified() == second.verified()


async def test_one_that_is_gone_for_good_is_left_alone(resources: Resources) -> None:
    async with receiving(Reply(410)) as receiver, delivering(resources):
        assert (await only(resources, receiver.url()))["state"] == "failed"


async def test_a_redirect_is_not_followed(resources: Resources) -> None:
    async with receiving() as inside, delivering(resources):
        reply = Reply(307, headers=[f"Location: {inside.url()}"])
        async with receiving(reply) as receiver:
            found = await only(resources, receiver.url())

    assert (found["state"], found["status_code"]) == ("pending", 307)
    assert (len(receiver.got), inside.got) == (1, [])


async def test_an_endless_answer_is_cut(resources: Resources) -> None:
    async with receiving(Reply(500, endless=True, body=b"x" * 10_000)) as receiver, delivering(resources):
        found = await only(resources, receiver.url())

    assert found["answer"] == "x" * courier.ANSWER_BYTES
    assert receiver.sent < 100_000_000


# ---- dead and slow ones --------------------------------------------------------------------------------------------


async def test_a_dead_one_is_tried_again_later(resources: Resources) -> None:
    async with receiving() as receiver:
        pass
    async with delivering(resources):
        found = await only(resources, receiver.url())

    assert (found["state"], found["error"]) == ("pending", "The receiver takes no connection.")


async def test_one_that_never_answers_is_given_up_for_now(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "SEND_SECONDS", 0.3)
    async with receiving(Reply(after=asyncio.Event())) as receiver, delivering(resources):
        found = await only(resources, receiver.url())

    assert (found["state"], found["error"]) == ("pending", "There was no answer within 0.3 s.")


async def test_slow_ones_hold_up_neither_jobs_nor_others(resources: Resources) -> None:
    wake = asyncio.Event()
    async with receiving(Reply(after=wake)) as slow, receiving() as quick, delivering(resources):
        waiting = [await ended(resources, slow.url()) for _ in range(deliver.AT_ONCE + 1)]
        row = await tried(resources, await ended(resources, quick.url()))
        assert row.status == "delivered"
        assert len(slow.got) <= deliver.AT_ONCE_EACH
        assert await nothing_waits(resources.sessions)
        wake.set()
        assert {(await tried(resources, job_id)).status for job_id in waiting} == {"delivered"}
    assert len(slow.got) == len(waiting)


# ---- where it may go -----------------------------------------------------------------------------------------------


async def test_a_name_that_leads_into_the_own_network_is_refused_for_good(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbidden = with_values(resources.settings, masuka_webhook_private=False)
    async with receiving() as receiver, open_resources(forbidden, "unix:///nowhere") as strict:
        leads_to(monkeypatch, "127.0.0.1", "169.254.169.254", "10.0.0.1")
        async with delivering(strict):
            found = await only(strict, receiver.url("hooks.example"))

    assert found["state"] == "failed"
    assert "private" in found["error"]
    assert "MASUKA_WEBHOOK_PRIVATE" in found["error"]
    assert receiver.got == []


async def test_the_url_of_the_setting_may_lead_anywhere(settings: Settings, valkey_url: str) -> None:
    async with receiving() as receiver:
        url = SecretStr(receiver.url("localhost"))
        own = with_values(settings, masuka_webhook_private=False, masuka_webhook_url=url)
        async with open_resources(own, valkey_url) as resources, delivering(resources):
            assert (await only(resources, receiver.url("localhost")))["state"] == "delivered"
            assert (await only(resources, receiver.url("127.0.0.1")))["state"] == "failed"


async def test_it_goes_to_an_address_that_was_judged_and_never_looks_twice(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiving() as receiver, delivering(resources):
        asked = leads_to(monkeypatch, "169.254.169.254", "127.0.0.1")
        found = await only(resources, receiver.url("hooks.example"))

    assert found["state"] == "delivered"
    assert asked == ["hooks.example"]
    assert receiver.got[0].headers["host"] == f"hooks.example:{receiver.port}"


async def test_an_address_that_takes_no_connection_gives_way_to_the_next(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiving() as receiver, delivering(resources):
        leads_to(monkeypatch, "127.0.0.99", "127.0.0.1")
        assert (await only(resources, receiver.url("hooks.example")))["state"] == "delivered"


async def test_an_unknown_name_may_be_known_later(resources: Resources, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "hunter2")

    async with delivering(resources):
        job_id = await ended(resources, "http://hooks.example/")
        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        row = await tried(resources, job_id)

    assert (row.status, row.log[0]["error"]) == ("pending", "The receiver's name is not known.")


# ---- secrets and crashes -------------------------------------------------------------------------------------------


async def test_no_secret_is_said_in_the_log(resources: Resources) -> None:
    with capture_logs() as lines:
        async with receiving(Reply(500), Reply(204)) as receiver, delivering(resources):
            url = receiver.url("me:hunter2@127.0.0.1", "/hunter2?token=hunter2")
            job_id = await ended(resources, url)
            await tried(resources, job_id)
            await let_time_pass(resources)
            row = await tried(resources, job_id, times=2)

    events = [line["event"] for line in lines]
    assert events.count("webhook_not_delivered") == events.count("webhook_delivered") == 1
    for secret in ("hunter2", SECRET, SECRET.removeprefix("whsec_")):
        assert secret not in f"{lines}{row.log}{row.body}"
    assert receiver.got[0].headers["authorization"].startswith("Basic ")


async def test_without_its_secret_it_waits_for_it(settings: Settings, valkey_url: str) -> None:
    unsigned = with_values(settings, masuka_webhook_secret=SecretStr(""))
    async with receiving() as receiver, open_resources(unsigned, valkey_url) as resources, delivering(resources):
        found = await only(resources, receiver.url())

    assert (found["state"], receiver.got) == ("pending", [])
    assert "MASUKA_WEBHOOK_SECRET" in found["error"]


async def test_a_bug_costs_one_attempt_and_not_the_worker(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any) -> str:
        raise ZeroDivisionError

    async with receiving() as receiver, delivering(resources):
        with monkeypatch.context() as broken:
            broken.setattr(deliver, "signature", crash)
            job_id = await ended(resources, receiver.url())
            assert "MASUKA itself" in (await tried(resources, job_id)).log[0]["error"]
        await let_time_pass(resources)
        assert (await tried(resources, job_id, times=2)).status == "delivered"


@pytest.mark.timeout(120)
async def test_a_killed_worker_loses_none_and_the_receiver_knows_the_second_for_the_first(
    settings: Settings, valkey_url: str, resources: Resources
) -> None:
    env = environment(settings, REDIS_URL=valkey_url, MASUKA_WEBHOOK_SECRET=SECRET, MASUKA_WEBHOOK_PRIVATE="true")
    async with receiving(Reply(after=asyncio.Event()), Reply()) as receiver:
        job_id = await ended(resources, receiver.url())
        worker = await asyncio.create_subprocess_exec(sys.executable, "-m", "api.worker_cpu", cwd=PROJECT_ROOT, env=env)
        try:
            await until(lambda: receiver.got, READY_SECONDS)
        finally:
            worker.kill()
            await worker.wait()
        assert (await row_of(resources, job_id)).status == "pending"
        await let_time_pass(resources)
        async with delivering(resources):
            row = await tried(resources, job_id)

    assert (row.status, row.attempt) == ("delivered", 2)
    first, second = receiver.got
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == str(row.id)
    assert first.verified() == second.verified()
