"""The embedded Redis: found, prepared, and in the same place for every process."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import redis

from api import redis_server
from api.errors import ConfigError
from api.redis_address import redis_url, socket_path
from api.settings import Settings
from tests.service import with_values
from tests.valkey import EmbeddedValkey


@pytest.fixture
def short(settings: Settings) -> Iterator[Settings]:
    with TemporaryDirectory(prefix="masuka-", dir="/tmp") as folder:
        yield with_values(settings, masuka_data_dir=Path(folder) / "100% größer #1?")


@pytest.fixture
async def valkey(short: Settings) -> AsyncIterator[EmbeddedValkey]:
    server = EmbeddedValkey(short)
    await server.start()
    yield server
    await server.kill()


async def test_a_client_finds_it_by_its_url(valkey: EmbeddedValkey) -> None:
    with redis.Redis.from_url(valkey.url) as client:
        assert client.ping()
        assert client.config_get("appendonly") == {"appendonly": "yes"}


async def test_what_was_acknowledged_is_there_after_a_kill(valkey: EmbeddedValkey) -> None:
    with redis.Redis.from_url(valkey.url) as client:
        for n in range(1000):
            client.set(f"key {n}", n)

    await valkey.kill()
    await valkey.start()

    with redis.Redis.from_url(valkey.url) as client:
        assert client.dbsize() == 1000


async def test_a_leftover_server_is_ended_before_the_next_one_starts(valkey: EmbeddedValkey) -> None:
    with redis.Redis.from_url(valkey.url) as client:
        client.set("kept", "yes")

    redis_server.prepare(valkey.settings)

    assert not redis_server.answers(socket_path(valkey.settings))
    await valkey.start()
    with redis.Redis.from_url(valkey.url) as client:
        assert client.get("kept") == b"yes"


async def test_only_its_owner_can_reach_it(valkey: EmbeddedValkey) -> None:
    path = socket_path(valkey.settings)

    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


async def test_one_that_hangs_does_not_answer(valkey: EmbeddedValkey, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_server, "PING_SECONDS", 0.1)
    with valkey.frozen():
        assert not redis_server.answers(socket_path(valkey.settings))


def test_nobody_answers_where_nobody_is(short: Settings) -> None:
    assert not redis_server.answers(socket_path(short))


# ---- where it is -------------------------------------------------------------------------------------------------


def test_the_users_own_redis_is_used_when_there_is_one(settings: Settings) -> None:
    assert redis_url(with_values(settings, redis_url="redis://host:6379/1")) == "redis://host:6379/1"


@pytest.mark.parametrize("length", [1, 50, 100, 200])
def test_the_sockets_name_always_fits(settings: Settings, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = with_values(settings, masuka_data_dir=Path("/") / ("ä" * length))
    path = socket_path(deep)

    assert len(os.fsencode(path)) <= 100
    monkeypatch.setenv("TMPDIR", "/somewhere/else")
    assert socket_path(deep) == path


def test_two_long_data_folders_have_two_sockets(settings: Settings) -> None:
    one, other = (with_values(settings, masuka_data_dir=Path("/") / (letter * 200)) for letter in "ab")

    assert socket_path(one) != socket_path(other)


# ---- which program -----------------------------------------------------------------------------------------------


def test_the_bundled_server_is_a_program(settings: Settings) -> None:
    assert os.access(redis_server.server_binary(settings), os.X_OK)


def test_the_configured_server_goes_first(settings: Settings) -> None:
    chosen = with_values(settings, masuka_redis_server=Path("/opt/valkey"))

    assert redis_server.command(chosen)[0] == "/opt/valkey"


def test_without_the_wheel_one_on_the_path_is_used(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        redis_server.server_binary(settings)
    assert caught.value.code == "redis_missing"

    server = tmp_path / "redis-server"
    server.touch(mode=0o700)
    assert redis_server.server_binary(settings) == server


def test_a_folder_of_somebody_else_is_not_used(short: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 12345)

    with pytest.raises(ConfigError) as caught:
        redis_server.prepare(short)

    assert caught.value.code == "redis_folder_foreign"
