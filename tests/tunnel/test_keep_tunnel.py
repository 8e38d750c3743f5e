"""A tunnel by a stand-in for ngrok that speaks what pyngrok reads: opened, lost in every way, and opened anew."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from typing import Any

import httpx
import psutil
import pytest
import structlog
from pydantic import SecretStr

from api import keep_tunnel
from api.colab.address import Address, address
from api.keep_tunnel import Pace
from api.ngrok import program, refusals
from api.ngrok.refusals import TunnelError
from api.settings import Settings
from api.tunnel import state
from api.tunnel.state import Stand, Tunnel
from tests.service import over_http, with_values
from tests.tunnel.conftest import StandIn
from tests.tunnel.ngrok_stand_in import TOKEN
from tests.waiting import until

PACE = Pace(check=600, soonest=0.05, look=0.05, connect=20, again=0.05, pause=0.05)
OWNER = "a-long-secret-of-the-owner"


@pytest.fixture
def tunnelled(settings: Settings, valkey_url: str, stand_in: StandIn) -> Settings:
    return with_values(
        settings,
        redis_url=valkey_url,
        ngrok_auth_token=SecretStr(TOKEN),
        masuka_ngrok_path=stand_in.program,
        masuka_api_token=SecretStr(OWNER),
    )


@asynccontextmanager
async def keeping(settings: Settings, pace: Pace = PACE) -> AsyncIterator[httpx.AsyncClient]:
    """The API on a port, and the tunnel that leads to it."""
    async with over_http(settings) as client:
        task = asyncio.create_task(keep_tunnel.keep(settings, int(client.base_url.port or 0), pace))
        try:
            yield client
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert state.read(settings) is None
    assert not agents()


def agents() -> list[psutil.Process]:
    alive = [one for one in psutil.Process().children() if one.status() != psutil.STATUS_ZOMBIE]
    return [one for one in alive if "--none" in one.cmdline()]


async def opened(settings: Settings, other_than: str = "") -> str:
    await until(lambda: state.url(settings) not in ("", other_than), 30)
    return state.url(settings)


async def failed(settings: Settings, code: str) -> Tunnel:
    def is_so() -> bool:
        found = state.read(settings)
        return found is not None and found.stand is Stand.FAILED and found.code == code

    await until(is_so, 30)
    found = state.read(settings)
    assert found is not None
    assert found.url == ""
    return found


def told(settings: Settings) -> dict[str, Any]:
    """As `/ready` tells of it."""
    found = state.read(settings)
    assert found is not None
    return asdict(found)


async def test_it_opens_to_a_locked_door_and_its_token_is_seen_by_nobody(tunnelled: Settings) -> None:
    async with keeping(tunnelled) as client:
        url = await opened(tunnelled)
        async with httpx.AsyncClient(base_url=url, trust_env=False) as outside:
            assert (await outside.get("/health")).status_code == 200
            assert (await outside.get("/api/jobs/")).status_code == 401
            bearer = {"Authorization": f"Bearer {OWNER}"}
            assert (await outside.get("/api/jobs/", headers=bearer)).status_code == 200
            assert (await client.get("/ready", headers=bearer)).json()["tunnel"]["url"] == url
        (agent,) = agents()
        assert TOKEN not in " ".join(agent.cmdline())
        assert TOKEN not in str(agent.environ())
        config = tunnelled.masuka_data_dir / "tunnel" / "ngrok.yml"
        assert (TOKEN in config.read_text(), config.stat().st_mode & 0o777) == (True, 0o600)
        assert address(told(tunnelled), "http://127.0.0.1:8000", 8000) == Address(url, "ngrok", "")


@pytest.mark.parametrize("fault", ["drop", "hang", "closed", "deaf"])
async def test_what_is_lost_is_opened_anew(tunnelled: Settings, stand_in: StandIn, fault: str) -> None:
    async with keeping(tunnelled):
        first = await opened(tunnelled)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("api.ngrok.agent.ANSWER_SECONDS", 0.5)
            stand_in.behaves(fault)
            await until(lambda: state.url(tunnelled) != first, 30)
        stand_in.behaves("")
        await opened(tunnelled, other_than=first)


async def test_one_that_is_killed_is_opened_anew(tunnelled: Settings) -> None:
    async with keeping(tunnelled):
        first = await opened(tunnelled)
        agents()[0].kill()
        await opened(tunnelled, other_than=first)


async def test_outside_is_asked_seldom_with_no_warning_page_in_between(tunnelled: Settings, stand_in: StandIn) -> None:
    async with keeping(tunnelled):
        await opened(tunnelled)
        await asyncio.sleep(20 * PACE.look)
        assert stand_in.asked() == ["/health 1"]
    async with keeping(tunnelled, replace(PACE, check=0.1)):
        await opened(tunnelled)
        await until(lambda: len(stand_in.asked()) > 4)


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        ("ERR_NGROK_108", "ngrok_sessions_limit"),
        ("ERR_NGROK_334", "ngrok_endpoint_taken"),
        ("ERR_NGROK_727", "ngrok_limit_reached"),
    ],
)
async def test_a_limit_is_said_with_what_to_do(
    tunnelled: Settings, stand_in: StandIn, behaviour: str, code: str
) -> None:
    stand_in.behaves(behaviour)
    async with keeping(tunnelled):
        found = await failed(tunnelled, code)
        assert behaviour in found.detail
        assert "dashboard.ngrok.com" in found.detail
        assert "There is no tunnel: " in address(told(tunnelled), "http://127.0.0.1:8000", 8000).note


async def test_a_wrong_token_is_said_and_not_repeated(tunnelled: Settings) -> None:
    wrong = "a-wrong-token-of-the-owner"
    with structlog.testing.capture_logs() as logged:
        async with keeping(with_values(tunnelled, ngrok_auth_token=SecretStr(wrong))):
            found = await failed(tunnelled, "ngrok_token_invalid")
    assert "NGROK_AUTH_TOKEN" in found.detail
    assert wrong not in f"{found}{logged}"


@pytest.mark.parametrize("behaviour", ["no network", "silent"])
async def test_without_a_network_it_says_so_and_opens_when_there_is_one(
    tunnelled: Settings, stand_in: StandIn, behaviour: str
) -> None:
    stand_in.behaves(behaviour)
    async with keeping(tunnelled, replace(PACE, connect=2)):
        found = await failed(tunnelled, "ngrok_unreachable")
        assert ("no such host" in found.detail) is (behaviour == "no network")
        stand_in.behaves("")
        await opened(tunnelled)


def test_a_program_that_cannot_be_fetched_or_found_is_said(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object, **__: object) -> Any:
        raise OSError("Network is unreachable")

    monkeypatch.setattr("pyngrok.installer.urlopen", no_network)
    with pytest.raises(TunnelError, match="unreachable") as caught:
        program.provide(settings)
    assert (caught.value.code, list((settings.masuka_data_dir / "tunnel").iterdir())) == ("ngrok_not_fetched", [])
    with pytest.raises(TunnelError) as caught:
        program.provide(with_values(settings, masuka_ngrok_path=settings.masuka_data_dir / "nothing"))
    assert caught.value.code == "ngrok_not_found"


def test_every_refusal_says_what_to_do() -> None:
    for number in (102, 105, 107, 108, 120, 334, 725, 727, 734, 4018, 99999):
        found = refusals.refusal(f"ERR_NGROK_{number}")
        assert (f"ERR_NGROK_{number}" in found.detail, bool(found.hint)) == (True, True)
        assert found.pause_seconds >= refusals.SOON


def test_what_a_dead_process_has_said_of_its_tunnel_counts_no_more(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert state.read(settings) is None
    state.tell(settings, Tunnel(Stand.OPEN, "https://mine.ngrok-free.app"))
    assert state.host(settings) == "mine.ngrok-free.app"
    monkeypatch.setattr(state, "process_start", lambda _: None)
    assert (state.read(settings), state.url(settings), state.host(settings)) == (None, "", "")
    (settings.masuka_data_dir / "tunnel" / "state.json").write_text("{")
    assert state.read(settings) is None
