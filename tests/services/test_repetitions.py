"""Equal requests of one process: one works, the others wait without a connection and share its answer."""

import asyncio

import pytest
import sqlalchemy as sa

from api.db import Sessions
from api.errors import ConflictError
from api.models import StoredAnswer
from api.services import idempotency
from api.services.idempotency import Hold, fingerprint
from api.services.repetitions import Repetitions

PRINT = fingerprint("POST", "/x", {"a": 1})
OTHER = fingerprint("POST", "/x", {"a": 2})


async def _keep(sessions: Sessions, hold: Hold, body: dict[str, int]) -> None:
    async with sessions.begin() as session:
        await idempotency.keep(session, hold, 201, body, "application/json")


async def _ask(repetitions: Repetitions) -> dict[str, int] | Hold:
    async with repetitions.turn("key", PRINT) as found:
        return found if isinstance(found, Hold) else found.body


async def test_those_who_wait_share_the_answer_of_the_one_who_works(sessions: Sessions) -> None:
    repetitions = Repetitions(sessions)
    async with repetitions.turn("key", PRINT) as hold:
        assert isinstance(hold, Hold)
        waiting = [asyncio.create_task(_ask(repetitions)) for _ in range(5)]
        await _keep(sessions, hold, {"n": 1})
        assert not any(task.done() for task in waiting)
    assert await asyncio.gather(*waiting) == [{"n": 1}] * 5


async def test_when_the_work_failed_the_next_in_line_does_it(sessions: Sessions) -> None:
    repetitions = Repetitions(sessions)
    async with repetitions.turn("key", PRINT) as hold:
        assert isinstance(hold, Hold)
        waiting = asyncio.create_task(_ask(repetitions))
        await idempotency.forget(sessions, hold)
    assert isinstance(await waiting, Hold)


async def test_another_request_with_the_key_is_refused_without_waiting(sessions: Sessions) -> None:
    repetitions = Repetitions(sessions)
    async with repetitions.turn("key", PRINT):
        with pytest.raises(ConflictError) as caught:
            async with repetitions.turn("key", OTHER):
                pass
    assert caught.value.code == "idempotency_key_reused"


async def test_one_whose_turn_does_not_come_is_told_that_the_key_is_busy(sessions: Sessions) -> None:
    repetitions = Repetitions(sessions)
    async with repetitions.turn("key", PRINT):
        with pytest.raises(ConflictError) as caught:
            async with repetitions.turn("key", PRINT, wait_seconds=0.05):
                pass
    assert caught.value.code == "idempotency_key_busy"


async def test_one_that_gave_up_in_line_does_not_hold_up_the_others(sessions: Sessions) -> None:
    repetitions = Repetitions(sessions)
    async with repetitions.turn("key", PRINT) as hold:
        assert isinstance(hold, Hold)
        leaving, staying = asyncio.create_task(_ask(repetitions)), asyncio.create_task(_ask(repetitions))
        await _keep(sessions, hold, {"n": 1})
        leaving.cancel()
    assert await staying == {"n": 1}
    assert leaving.cancelled()


async def test_nothing_is_remembered_when_nobody_asks_any_more(sessions: Sessions) -> None:
    repetitions = Repetitions(sessions)
    async with repetitions.turn("key", PRINT) as hold:
        assert isinstance(hold, Hold)
        await _keep(sessions, hold, {"n": 1})
    assert await _ask(repetitions) == {"n": 1}
    async with sessions.begin() as session:
        await session.execute(sa.delete(StoredAnswer))
    assert isinstance(await _ask(repetitions), Hold)
