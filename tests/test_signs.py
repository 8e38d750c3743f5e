"""Signs of life on a pipe, and answers to questions: who is silent, and who is not."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import closing

import pytest

from api import signs
from api.signs import SIGN_FD, SignPipe, Watch, give_signs, until_silent


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signs, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(signs, "SIGN_SECONDS", 0.01)


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[SignPipe]:
    with closing(SignPipe()) as opened:
        monkeypatch.setenv(SIGN_FD, str(opened.write_end))
        yield opened


async def test_who_gives_signs_is_heard_and_who_stops_is_silent(pipe: SignPipe) -> None:
    giving = asyncio.create_task(give_signs())
    watching = asyncio.create_task(until_silent(Watch(0.3), pipe))
    done, _ = await asyncio.wait({watching}, timeout=1)
    assert not done

    giving.cancel()

    async with asyncio.timeout(5):
        await watching


async def test_once_it_has_answered_a_child_must_answer(pipe: SignPipe) -> None:
    """Its event loop turns, but nobody is served."""
    giving = asyncio.create_task(give_signs())
    answers = iter([False, False, True])

    async def answer() -> bool:
        return next(answers, False)

    async with asyncio.timeout(5):
        await until_silent(Watch(0.1, answer), pipe)

    assert next(answers, None) is None
    giving.cancel()


async def test_a_pipe_that_nobody_reads_does_not_hold_up_the_child(
    pipe: SignPipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signs, "SIGN_SECONDS", 0)
    turns = 0
    giving = asyncio.create_task(give_signs())
    while turns < 70_000:  # more than a pipe holds
        turns += 1
        await asyncio.sleep(0)
    assert not giving.done()
    giving.cancel()


async def test_who_was_not_started_by_a_supervisor_gives_no_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SIGN_FD, raising=False)
    async with asyncio.timeout(1):
        await give_signs()


async def test_when_whoever_looked_is_gone_the_giving_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    monkeypatch.setenv(SIGN_FD, str(write_end))
    async with asyncio.timeout(1):
        await give_signs()
    os.close(write_end)
