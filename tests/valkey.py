"""The embedded Valkey as `masuka up` starts it, to be killed, frozen and started again."""

import asyncio
import os
import signal
from asyncio.subprocess import Process
from collections.abc import Iterator
from contextlib import contextmanager

from api import redis_server
from api.redis_address import redis_url, socket_path
from api.settings import Settings
from tests.waiting import until


class EmbeddedValkey:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.url = redis_url(settings)
        self._process: Process | None = None

    async def start(self) -> None:
        """Start it and wait until it answers."""
        redis_server.prepare(self.settings)
        self._process = await asyncio.create_subprocess_exec(*redis_server.command(self.settings))
        await until(lambda: redis_server.answers(socket_path(self.settings)))

    async def kill(self) -> None:
        """Without a chance to save anything."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It keeps its connections and says nothing."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self._process.pid, signal.SIGCONT)
