"""Turns of decoding large pictures: few at a time, and never two for the same picture."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from weakref import WeakValueDictionary

AT_ONCE = 2


class Looks:
    """Of one process, so that requests at the same time do not take the machine's memory."""

    def __init__(self) -> None:
        self.turns = asyncio.Semaphore(AT_ONCE)
        # Threads of their own: each thread that ever held a picture keeps memory for the next one.
        self.threads = ThreadPoolExecutor(AT_ONCE, "look")
        self._pictures: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def alone_at(self, sha256: str) -> asyncio.Lock:
        """To be held from the question what is known of this picture until the answer is kept."""
        return self._pictures.setdefault(sha256, asyncio.Lock())
