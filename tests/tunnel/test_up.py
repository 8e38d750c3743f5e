"""`masuka up` with a token of ngrok: the door gets a lock of its own, and the tunnel is one of its parts."""

import signal
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from api import token_file
from api.settings import Settings
from api.tunnel import state
from tests.service import with_values
from tests.tunnel.conftest import StandIn
from tests.tunnel.ngrok_stand_in import TOKEN
from tests.up_process import is_gone, refused, started
from tests.waiting import until

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def settings(settings: Settings) -> Iterator[Settings]:
    """A data folder short enough for the socket in it."""
    with TemporaryDirectory(prefix="masuka-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield with_values(settings, masuka_data_dir=Path(folder) / "data")


async def test_a_token_is_made_and_the_tunnel_opened_kept_and_ended_with_the_rest(
    settings: Settings, stand_in: StandIn
) -> None:
    with started(settings, NGROK_AUTH_TOKEN=TOKEN, MASUKA_NGROK_PATH=str(stand_in.program)) as up:
        await up.ready()
        await until(lambda: state.url(settings) != "", 90)
        url, token = state.url(settings), token_file.stored(settings.masuka_data_dir)
        await until(lambda: f"url={url}" in up.text(), 30)  # said by another process than the one that prints it
        assert token_file.is_private(settings.masuka_data_dir)
        assert token not in up.text()  # which is a file here, and no terminal
        assert (up.status("/health"), up.status("/ready")) == (200, 401)

        everybody = up.descendants()
        (keeper,) = [one for one in everybody if "api.keep_tunnel" in one.cmdline()]
        (agent,) = [one for one in everybody if str(stand_in.program) in one.cmdline()]
        assert not [one for one in everybody if TOKEN in " ".join(one.cmdline())]
        keeper.kill()
        await until(lambda: is_gone(agent) and state.url(settings) not in ("", url), 90)

        everybody += up.descendants()
        assert up.end(signal.SIGTERM) == 0
        await until(lambda: all(is_gone(one) for one in everybody), 30)
    assert state.read(settings) is None
    assert not [one for one in psutil.process_iter() if _runs(one, stand_in)]


def _runs(process: psutil.Process, stand_in: StandIn) -> bool:
    try:
        return str(stand_in.program) in process.cmdline()
    except psutil.Error:
        return False


def test_a_token_that_could_be_guessed_is_refused_with_a_tunnel(settings: Settings) -> None:
    code, lines = refused(settings, NGROK_AUTH_TOKEN=TOKEN, MASUKA_API_TOKEN="short")
    assert code == 78
    assert lines[0].startswith("masuka: MASUKA_API_TOKEN has fewer than 16 characters")
