import asyncio
from collections.abc import Awaitable, Callable

import pytest

from api.together import Together


def counted(looks: list[asyncio.Event]) -> Callable[[], Awaitable[int]]:
    """A look that ends when its event is set; its number."""

    async def look() -> int:
        event = asyncio.Event()
        looks.append(event)
        number = len(looks)
        await event.wait()
        return number

    return look


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_those_who_ask_at_once_share_one_look_and_those_who_ask_later_the_next() -> None:
    together, looks = Together(), list[asyncio.Event]()
    first = [asyncio.create_task(together.look("a", counted(looks))) for _ in range(3)]
    await settled()
    second = [asyncio.create_task(together.look("a", counted(looks))) for _ in range(3)]
    await settled()
    assert len(looks) == 1, "a second look at the same while the first goes on"

    looks[0].set()
    assert [await task for task in first] == [1, 1, 1]
    await settled()
    looks[1].set()
    assert [await task for task in second] == [2, 2, 2]
    assert len(looks) == 2


async def test_what_was_seen_is_not_kept() -> None:
    together = Together()
    seen = iter([1, 2])

    async def look() -> int:
        return next(seen)

    assert [await together.look("a", look), await together.look("a", look)] == [1, 2]


async def test_looks_at_different_things_do_not_wait_for_each_other() -> None:
    together, looks = Together(), list[asyncio.Event]()
    one = asyncio.create_task(together.look("a", counted(looks)))
    other = asyncio.create_task(together.look("b", counted(looks)))
    await settled()
    looks[1].set()
    assert await other == 2
    assert not one.done()
    looks[0].set()
    assert await one == 1


async def test_one_who_goes_away_takes_nothing_from_the_others() -> None:
    together, looks = Together(), list[asyncio.Event]()
    gone, stays = (asyncio.create_task(together.look("a", counted(looks))) for _ in range(2))
    await settled()
    gone.cancel()
    await settled()
    looks[0].set()
    assert await stays == 1


async def test_a_failure_is_told_to_all_and_the_next_look_is_a_new_one() -> None:
    together = Together()

    async def fail() -> int:
        await asyncio.sleep(0)
        raise KeyError("no")

    async def see() -> int:
        return 7

    failed = await asyncio.gather(together.look("a", fail), together.look("a", fail), return_exceptions=True)
    assert [type(each) for each in failed] == [KeyError, KeyError]
    with pytest.raises(KeyError):
        await together.look("a", fail)
    assert await together.look("a", see) == 7
