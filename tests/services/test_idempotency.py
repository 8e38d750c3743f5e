"""One key, one piece of work: whoever asks again, meanwhile, later or after a crash."""

import asyncio
import subprocess
import sys
from datetime import timedelta

import pytest
import sqlalchemy as sa
from sqlmodel import col

from api.db import Sessions
from api.errors import ConflictError
from api.lease import new_owner
from api.models import StoredAnswer
from api.models.base import utcnow
from api.services import idempotency
from api.services.idempotency import ABANDONED, KEPT, Hold, begin, fingerprint
from tests.waiting import until_async

PRINT = fingerprint("POST", "/x", {"a": 1})
OTHER = fingerprint("POST", "/x", {"a": 2})


async def _hold(sessions: Sessions, print_: str = PRINT) -> Hold:
    found = await begin(sessions, "key", print_, wait_seconds=0)
    assert isinstance(found, Hold)
    return found


async def _keep(sessions: Sessions, hold: Hold, body: dict[str, int]) -> None:
    async with sessions.begin() as session:
        await idempotency.keep(session, hold, 201, body, "application/json")


async def _set(sessions: Sessions, **values: object) -> None:
    async with sessions.begin() as session:
        await session.execute(sa.update(StoredAnswer).values(**values))


async def _answer(sessions: Sessions, print_: str = PRINT) -> dict[str, int]:
    found = await begin(sessions, "key", print_, wait_seconds=10)
    assert isinstance(found, StoredAnswer)
    return found.body


def dead_owner() -> str:
    """As `new_owner` names it, of a process that has ended."""
    program = "from api.lease import new_owner; print(new_owner())"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return done.stdout.strip()


async def test_a_repetition_gets_the_first_answer(sessions: Sessions) -> None:
    await _keep(sessions, await _hold(sessions), {"n": 1})
    assert await _answer(sessions) == {"n": 1}


async def test_the_key_of_another_request_is_refused_before_and_after_its_end(sessions: Sessions) -> None:
    hold = await _hold(sessions)
    with pytest.raises(ConflictError) as before:
        await begin(sessions, "key", OTHER)
    await _keep(sessions, hold, {})
    with pytest.raises(ConflictError) as after:
        await begin(sessions, "key", OTHER)
    assert before.value.code == after.value.code == "idempotency_key_reused"


async def test_of_many_at_once_one_works_and_the_others_get_its_answer(sessions: Sessions) -> None:
    worked = 0

    async def ask() -> dict[str, int]:
        nonlocal worked
        found = await begin(sessions, "key", PRINT)
        if isinstance(found, StoredAnswer):
            return found.body
        worked += 1
        await asyncio.sleep(0)
        await _keep(sessions, found, {"n": worked})
        return {"n": worked}

    assert await asyncio.gather(*(ask() for _ in range(12))) == [{"n": 1}] * 12


async def test_one_that_does_not_end_in_time_is_said_to_be_busy(sessions: Sessions) -> None:
    await _hold(sessions)
    with pytest.raises(ConflictError) as caught:
        await begin(sessions, "key", PRINT, wait_seconds=0.1)
    assert caught.value.code == "idempotency_key_busy"


async def test_a_request_whose_process_died_is_taken_over_at_once(sessions: Sessions) -> None:
    first = await _hold(sessions)
    await _set(sessions, owner=dead_owner())
    second = await _hold(sessions)
    assert second.owner != first.owner


async def test_a_request_on_another_host_is_taken_over_when_it_is_silent(sessions: Sessions) -> None:
    await _hold(sessions)
    await _set(sessions, owner="elsewhere|1|1.0|abcd")
    with pytest.raises(ConflictError):
        await begin(sessions, "key", PRINT, wait_seconds=0)
    await _set(sessions, touched_at=utcnow() - ABANDONED - timedelta(seconds=1))
    await _hold(sessions)


async def test_one_that_was_taken_over_can_no_longer_answer_or_forget(sessions: Sessions) -> None:
    first = await _hold(sessions)
    await _set(sessions, touched_at=utcnow() - ABANDONED - timedelta(seconds=1))
    second = await _hold(sessions)
    with pytest.raises(ConflictError):
        await _keep(sessions, first, {"n": 1})
    await idempotency.forget(sessions, first)
    await _keep(sessions, second, {"n": 2})
    with pytest.raises(ConflictError):
        await _keep(sessions, second, {"n": 3})
    assert await _answer(sessions) == {"n": 2}


async def test_after_a_day_a_key_is_new_again_for_any_request(sessions: Sessions) -> None:
    await _keep(sessions, await _hold(sessions), {})
    await _set(sessions, created_at=utcnow() - KEPT - timedelta(seconds=1))
    await _hold(sessions, OTHER)


async def test_what_is_forgotten_can_be_tried_again(sessions: Sessions) -> None:
    await idempotency.forget(sessions, await _hold(sessions))
    await _hold(sessions)


async def test_long_work_gives_signs_of_life(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "TOUCH_SECONDS", 0.01)
    hold = await _hold(sessions)
    await _set(sessions, touched_at=utcnow() - ABANDONED)

    async def touched() -> bool:
        async with sessions() as session:
            found = await session.scalar(sa.select(col(StoredAnswer.touched_at)))
            return found is not None and found > utcnow() - timedelta(seconds=10)

    assert not await touched()
    async with idempotency.alive(sessions, hold):
        await until_async(touched)
    await _keep(sessions, hold, {})


def test_a_fingerprint_is_the_request_and_nothing_else() -> None:
    assert fingerprint("POST", "/x", {"a": 1, "b": [2]}) == fingerprint("POST", "/x", {"b": [2], "a": 1})
    others: list[tuple[str, str, dict[str, object]]] = [
        ("PUT", "/x", {"a": 1}),
        ("POST", "/y", {"a": 1}),
        ("POST", "/x", {"a": "1"}),
        ("POST", "/x", {}),
    ]
    assert len({PRINT, *(fingerprint(*request) for request in others)}) == 5


def test_every_request_has_an_owner_of_its_own() -> None:
    assert new_owner() != new_owner()
