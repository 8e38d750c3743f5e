"""Many things done, a few of them at a time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

Thing = TypeVar("Thing")
Made = TypeVar("Made")


async def few_at_once(count: int, work: Callable[[Thing], Awaitable[Made]], things: Iterable[Thing]) -> list[Made]:
    """What `work` made of each thing, in their order.

    There are never more than `count` tasks: to make thousands holds up everybody else on the event loop. The first
    failure ends the others, and is raised as it is once they have ended.
    """
    made: dict[int, Made] = {}
    numbered = enumerate(things)

    async def work_off() -> None:
        for number, thing in numbered:
            made[number] = await work(thing)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(work_off())
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [made[number] for number in sorted(made)]
