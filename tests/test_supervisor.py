"""`masuka up` as real processes: it starts, restarts what dies, refuses what cannot be, and leaves nobody behind."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from api.redis_address import socket_path
from api.settings import Settings
from tests.service import with_values
from tests.up_process import COMMANDS, Up, is_gone, refused, started
from tests.waiting import until

pytestmark = pytest.mark.timeout(180)
EVERYBODY_WITHIN_SECONDS = 30


@pytest.fixture
def settings(settings: Settings) -> Iterator[Settings]:
    """A data folder short enough for the socket in it."""
    with TemporaryDirectory(prefix="masuka-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield with_values(settings, masuka_data_dir=Path(folder) / "data")


async def test_what_dies_is_started_again_until_one_signal_ends_all(settings: Settings) -> None:
    with started(settings) as up:
        await up.ready()
        everybody = up.descendants()
        for name in COMMANDS:
            await killed_and_back(up, name)
            everybody += up.descendants()
        await up.ready_again()

        code, lines = refused(settings)
        assert (code, len(lines)) == (78, 2)
        assert lines[0] == "masuka: MASUKA already runs with this data folder."

        assert up.end(signal.SIGTERM) == 0
        await nobody_left(everybody)


async def killed_and_back(up: Up, name: str) -> None:
    before = up.child(name)
    assert before is not None
    before.kill()

    def is_back() -> bool:
        now = up.child(name)
        return now is not None and now.pid != before.pid

    await until(is_back, 30)


async def nobody_left(processes: list[psutil.Process]) -> None:
    await until(lambda: all(is_gone(process) for process in processes), EVERYBODY_WITHIN_SECONDS)


async def test_when_the_supervisor_is_killed_nobody_is_left_and_the_next_start_works(settings: Settings) -> None:
    with started(settings) as up:
        await up.ready()
        everybody = up.descendants()
        assert len(everybody) >= len(COMMANDS)
        up.process.kill()
        up.process.wait()

        with started(settings) as next_up:
            await nobody_left(everybody)
            await until(lambda: " ready at " in next_up.text() or next_up.process.poll() is not None, 60)
            assert next_up.end(signal.SIGINT) == 0


async def test_a_data_folder_may_have_a_very_long_and_strange_name(settings: Settings) -> None:
    folder = settings.masuka_data_dir / ("long " * 15) / "100% größer #1"
    strange = with_values(settings, masuka_data_dir=folder)
    with started(strange) as up:
        await up.ready()
        assert up.status("/ready") == 200
        assert up.end(signal.SIGHUP) == 0

    assert (folder / "masuka.db").exists()
    assert (folder / "redis" / "appendonlydir").exists()
    assert len(os.fsencode(socket_path(strange))) < 108


def test_a_port_in_use_is_said_at_once(settings: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        code, lines = refused(settings, "--port", str(port))

    assert code == 78
    assert lines[0] == f"masuka: Cannot listen on 127.0.0.1:{port}: Address already in use."


@pytest.mark.parametrize(
    ("words", "env", "said"),
    [
        ((), {"MASUKA_PORT": "many"}, "MASUKA_PORT: Input should be a valid integer"),
        (("--host", "0.0.0.0"), {}, "MASUKA_HOST=0.0.0.0 is reachable from other machines and no token is set."),
        (("--host", "203.0.113.1"), {"MASUKA_API_TOKEN": "x"}, "Cannot listen on 203.0.113.1:0"),
        ((), {"MASUKA_DATA_DIR": "/proc/masuka"}, "The data folder /proc/masuka cannot be used"),
        ((), {"MASUKA_DATA_DIR": "/dev/null"}, "The data folder /dev/null cannot be used"),
        ((), {"MASUKA_REDIS_SERVER": "/nowhere/valkey"}, "/nowhere/valkey cannot be started"),
        ((), {"DATABASE_URL": "mysql://db"}, "DATABASE_URL must start with postgresql:// or sqlite:///"),
    ],
)
def test_what_cannot_be_started_is_one_message_and_exit_code_78(
    settings: Settings, words: tuple[str, ...], env: dict[str, str], said: str
) -> None:
    code, lines = refused(settings, *words, **env)

    assert code == 78
    assert lines[0].startswith(f"masuka: {said}")
    assert len(lines) <= 2  # and what to do


def test_a_database_that_does_not_let_us_in_is_one_line(settings: Settings, postgres_url: str) -> None:
    nobody = postgres_url.replace("postgres@", "me:hunter2@")
    code, lines = refused(settings, DATABASE_URL=nobody, REDIS_URL="redis://x")

    about = [line for line in lines if "masuka: " in line]
    assert (code, len(about)) == (78, 1)
    assert "The database does not let us in" in about[0]
    assert "DATABASE_URL" in about[0]
    assert not any("hunter2" in line or "Traceback" in line for line in lines)
