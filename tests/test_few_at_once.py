import asyncio

import pytest

from api.few_at_once import few_at_once


async def test_what_was_made_comes_in_the_order_of_the_things_and_never_too_many_are_under_way() -> None:
    under_way = most = 0
    last_first = asyncio.Event()

    async def double(number: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if number == 0:
            await last_first.wait()
        elif number == 99:
            last_first.set()
        await asyncio.sleep(0)
        under_way -= 1
        return 2 * number

    assert await few_at_once(3, double, range(100)) == list(range(0, 200, 2))
    assert most == 3


async def test_of_nothing_nothing_is_made() -> None:
    assert await few_at_once(3, asyncio.sleep, []) == []


async def test_the_first_failure_ends_the_others_and_is_raised_as_it_is() -> None:
    begun: list[int] = []
    ended: list[int] = []

    async def fail_at_2(number: int) -> None:
        begun.append(number)
        try:
            if number == 2:
                raise KeyError(number)
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    with pytest.raises(KeyError, match="2"):
        await few_at_once(3, fail_at_2, range(10))
    assert begun == [0, 1, 2]
    assert sorted(ended) == begun
