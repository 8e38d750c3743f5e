"""Servers that are not the service's own: a real Postgres, S3 or Redis, each behind a link that can be cut."""

import asyncio
import signal
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from tests.faults.campaign.link import Link
from tests.faults.campaign.plan import Action, Target
from tests.servers import Child, postgres_server, s3_server, valkey_server

DATABASE = "masuka"


@dataclass(frozen=True)
class Outside:
    """One server, and the fields of Settings that lead to it."""

    child: Child
    link: Link
    through_link: Mapping[str, Any]
    direct: Mapping[str, Any]
    """For whoever looks at it when all is over."""

    async def suffer(self, action: Action, seconds: float) -> None:
        """Be killed and started again, be frozen and thawed, or be unreachable, for so long."""
        if action is Action.CUT:
            await self.link.close()
            await asyncio.sleep(seconds)
            await self.link.open()
        elif action is Action.KILL:
            self.child.process.kill()
            await asyncio.sleep(seconds)
            await asyncio.to_thread(self.child.process.wait)
            self.child.start()
        else:
            frozen = self._signal(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            for process in frozen:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> list[psutil.Process]:
        """To the server and to its children, who do the work."""
        parent = psutil.Process(self.child.process.pid)
        all_of_it = [parent, *parent.children(recursive=True)]
        for process in all_of_it:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        return all_of_it


@asynccontextmanager
async def outside_servers(targets: Collection[Target], folder: Path) -> AsyncIterator[dict[Target, Outside]]:
    """Real servers that keep what they know below `folder`, but for Redis, which need not know anything."""
    opens = {Target.REDIS: _redis, Target.POSTGRES: _postgres, Target.S3: _s3}
    with ExitStack() as stack:
        found = {target: await opens[target](stack, folder / target.value) for target in targets}
        try:
            yield found
        finally:
            for server in found.values():
                await server.link.close()


async def _redis(stack: ExitStack, folder: Path) -> Outside:
    server = stack.enter_context(valkey_server())
    link = Link(partial(asyncio.open_unix_connection, server.path))
    await link.open()
    return Outside(server.child, link, {"redis_url": f"redis://127.0.0.1:{link.port}"}, {"redis_url": server.url})


async def _postgres(stack: ExitStack, folder: Path) -> Outside:
    known = folder.exists()
    server = stack.enter_context(postgres_server(folder))
    if not known:
        server.run(f"CREATE DATABASE {DATABASE}")
    link = Link(partial(asyncio.open_unix_connection, server.socket_dir / ".s.PGSQL.5432"))
    await link.open()
    url = f"postgresql://postgres@127.0.0.1:{link.port}/{DATABASE}"
    return Outside(server.child, link, {"database_url": url}, {"database_url": server.url(DATABASE)})


async def _s3(stack: ExitStack, folder: Path) -> Outside:
    server = stack.enter_context(s3_server(folder))
    address = urlsplit(server.endpoint)
    link = Link(partial(asyncio.open_connection, address.hostname, address.port))
    await link.open()
    endpoint = {"s3_endpoint_url": f"http://127.0.0.1:{link.port}"}
    return Outside(server.child, link, server.settings | endpoint, server.settings)
