"""One look for all who ask the same at once."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, TypeVar

Seen = TypeVar("Seen")


class Together:
    """Shares what is seen among those who ask while it is looked for; nobody is told what was seen before he asked."""

    def __init__(self) -> None:
        self._next: dict[Hashable, asyncio.Task[Any]] = {}
        """Looks that have not begun: whoever asks now can share them."""
        self._now: dict[Hashable, asyncio.Task[Any]] = {}
        """The last look that has begun."""

    async def look(self, what: Hashable, look: Callable[[], Awaitable[Seen]]) -> Seen:
        """What `look` sees of `what` from now on. Raises what it raises; a caller that is cancelled stops no other."""
        if what not in self._next:
            self._next[what] = asyncio.create_task(self._look(what, look, self._now.get(what)))
        seen: Seen = await asyncio.shield(self._next[what])
        return seen

    async def _look(
        self, what: Hashable, look: Callable[[], Awaitable[Seen]], before: asyncio.Task[Any] | None
    ) -> Seen:
        if before is not None:
            await asyncio.wait({before})
        mine = self._now[what] = self._next.pop(what)
        try:
            return await look()
        finally:
            if self._now[what] is mine:
                del self._now[what]
