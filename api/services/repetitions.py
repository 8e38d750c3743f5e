"""Equal requests of one process take turns: one asks the database, the others wait in memory and share its answer.

A thousand repetitions that arrive together would otherwise queue for the few connections of the pool, and on SQLite
for its one writer, until some of them time out.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from api.db import Sessions
from api.models import StoredAnswer
from api.services import idempotency
from api.services.idempotency import WAIT_SECONDS, Hold


@dataclass(slots=True)
class _Line:
    """The equal requests of this moment; the lock lets them in one by one, in the order in which they came."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    members: int = 0
    answer: StoredAnswer | None = None


class Repetitions:
    """One per process, so that it sees all of the process's requests."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._lines: dict[tuple[str, str], _Line] = {}

    @asynccontextmanager
    async def turn(
        self, key: str, print_: str, *, wait_seconds: float = WAIT_SECONDS
    ) -> AsyncIterator[StoredAnswer | Hold]:
        """What `idempotency.begin` answers; whoever gets a Hold works inside the block.

        Raises ConflictError as `begin` does.
        """
        line = self._lines.setdefault((key, print_), _Line())
        line.members += 1
        try:
            try:
                async with asyncio.timeout(wait_seconds):
                    await line.turn.acquire()
            except TimeoutError as exc:
                raise idempotency.busy(key) from exc
            try:
                found = line.answer or await idempotency.begin(self._sessions, key, print_, wait_seconds=wait_seconds)
                if isinstance(found, StoredAnswer):
                    line.answer = found
                yield found
            finally:
                line.turn.release()
        finally:
            line.members -= 1
            if line.members == 0:
                del self._lines[key, print_]
