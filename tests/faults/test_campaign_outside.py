"""The servers outside: what is done to them really happens, and is over afterwards."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.faults.campaign.link import Link
from tests.faults.campaign.outside import Outside, outside_servers
from tests.faults.campaign.plan import Action, Target
from tests.servers import postgres_server, s3_server
from tests.waiting import until_async


async def echo(reader: StreamReader, writer: StreamWriter) -> None:
    with suppress(ConnectionResetError):
        while line := await reader.readline():
            writer.write(line)
    writer.close()


@asynccontextmanager
async def linked_echo() -> AsyncIterator[Link]:
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        link = Link(partial(asyncio.open_connection, "127.0.0.1", server.sockets[0].getsockname()[1]))
        await link.open()
        yield link
        await link.close()


async def test_a_link_carries_both_ways_is_cut_and_opens_on_the_same_port() -> None:
    async with linked_echo() as link:
        port = link.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"

        await link.close()
        assert await reader.readline() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)

        await link.open()
        reader, again = await asyncio.open_connection("127.0.0.1", port)
        again.write(b"again\n")
        assert await reader.readline() == b"again\n"
        for one in (writer, again):
            one.close()


@pytest.mark.parametrize("action", [Action.KILL, Action.FREEZE, Action.CUT])
async def test_a_server_suffers_and_is_back(action: Action, tmp_path: Path) -> None:
    async with outside_servers([Target.REDIS], tmp_path) as found:
        redis = found[Target.REDIS]
        assert await answers(redis)
        suffering = asyncio.create_task(redis.suffer(action, 1.5))
        await until_async(lambda: silent(redis))
        await suffering
        await until_async(lambda: answers(redis))


async def answers(server: Outside) -> bool:
    async with Redis.from_url(server.through_link["redis_url"], socket_timeout=0.3) as client:
        try:
            return bool(await client.ping())
        except (RedisError, OSError):
            return False


async def silent(server: Outside) -> bool:
    return not await answers(server)


def test_a_kept_server_remembers() -> None:
    with TemporaryDirectory(prefix="masuka-", dir="/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        with postgres_server(folder / "postgres") as postgres:
            postgres.run("CREATE DATABASE kept")
        with postgres_server(folder / "postgres") as postgres:
            postgres.run("DROP DATABASE kept")  # raises when there is none
        with s3_server(folder / "s3") as first:
            pass
        with s3_server(folder / "s3") as second:
            assert first.endpoint == second.endpoint
