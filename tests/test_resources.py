"""Everything is opened and closed in one place, also when a part of it cannot be opened."""

import asyncio

import pytest
import redis

from api.errors import ConfigError, MasukaError
from api.resources import open_resources, until_reachable
from api.settings import Settings
from tests.job_rows import add
from tests.service import with_values


def connections(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return len(client.client_list()) - 1


async def test_nothing_stays_open(settings: Settings, valkey_url: str) -> None:
    async with open_resources(settings, valkey_url) as resources:
        job_id = await add(resources.sessions)
        async with resources.progress.listen(job_id):
            await resources.redis.ping()
            assert connections(valkey_url) >= 2

    assert connections(valkey_url) == 0


async def test_nothing_stays_open_when_the_database_does_not_let_us_in(settings: Settings, valkey_url: str) -> None:
    unreachable = with_values(settings, database_url="postgresql://me@127.0.0.1:1/x")

    with pytest.raises(ConfigError):
        async with open_resources(unreachable, valkey_url):
            pass

    assert connections(valkey_url) == 0


async def test_redis_may_come_later(settings: Settings) -> None:
    async with open_resources(settings, "unix:///nowhere/redis.sock") as resources:
        await add(resources.sessions)


async def test_a_storage_that_cannot_be_used_is_said(settings: Settings, valkey_url: str) -> None:
    settings.make_data_dir()
    (settings.masuka_data_dir / "storage").write_text("not a folder")

    with pytest.raises(MasukaError):
        async with open_resources(settings, valkey_url):
            pass


async def test_the_waiting_for_a_database_says_once_why_and_ends_when_it_is_no_longer_wanted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("api.resources.REACH_SECONDS", 0.01)
    stopped = asyncio.Event()
    asyncio.get_running_loop().call_later(0.5, stopped.set)

    away = with_values(settings, database_url="postgresql://me@127.0.0.1:1/x")
    assert not await until_reachable(away, stopped)

    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("masuka: The database does not answer: ")
    assert await until_reachable(settings, asyncio.Event())
