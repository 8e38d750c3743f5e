"""`python -m api.keep_tunnel`: a public address for the API on this machine, kept open.

Asking the address from outside costs a request of ngrok's monthly allowance, so that is done seldom: at the start,
when ngrok logs a warning, and every MASUKA_TUNNEL_CHECK_SECONDS. The program itself is asked all the time.
"""

import asyncio
import contextlib
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import httpx
import structlog

from api.bind import base_url
from api.door import Door, lives
from api.errors import ConfigError
from api.logs import configure_logs, report
from api.ngrok import agent, program
from api.ngrok.agent import Agent
from api.ngrok.refusals import LATER, SOON, TunnelError, refusal
from api.settings import Settings, load_settings
from api.signs import give_signs
from api.tunnel import state
from api.tunnel.state import Stand, Tunnel

log = structlog.get_logger(__name__)
SKIP_WARNING = {"ngrok-skip-browser-warning": "1"}
FETCH_SECONDS = 300.0
TRIES = 3
STABLE_SECONDS = 300.0
"""A tunnel that lived this long starts its back-off anew."""


@dataclass(frozen=True, slots=True)
class Pace:
    """In seconds."""

    check: float
    """Between two questions from outside while all is well."""
    soonest: float = 60.0
    """And when ngrok has logged a warning, which it may do again and again."""
    look: float = 5.0
    """Between two questions to the program."""
    connect: float = 30.0
    again: float = 5.0
    """Between two questions from outside when one was not answered."""
    pause: float = SOON
    """Before the first new start."""


def main() -> int:
    try:
        settings = load_settings()
        configure_logs(settings.masuka_log_level)
        return asyncio.run(_main(settings))
    except ConfigError as exc:
        return report(exc)


async def _main(settings: Settings) -> int:
    keeping = asyncio.create_task(keep(settings, settings.masuka_port, Pace(settings.masuka_tunnel_check_seconds)))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, keeping.cancel)
    signs = asyncio.create_task(give_signs())
    with contextlib.suppress(asyncio.CancelledError):
        await keeping
    signs.cancel()
    return 0


async def keep(settings: Settings, port: int, pace: Pace) -> None:
    """For ever: a tunnel, and another one when it is lost. Only what changes is logged."""
    clock = asyncio.get_running_loop().time
    told, failures = "", 0
    try:
        while True:
            began = clock()
            try:
                await _one(settings, port, pace)
            except TunnelError as exc:
                state.tell(settings, Tunnel(Stand.FAILED, code=exc.code, detail=str(exc)))
                if str(exc) != told:
                    log.warning("tunnel_closed", code=exc.code, error=exc.detail, hint=exc.hint)
                told = "" if exc.code == "tunnel_lost" else str(exc)
                failures = 0 if clock() - began > STABLE_SECONDS else failures + 1
                await asyncio.sleep(_pause(exc, failures, pace))
    finally:
        state.forget(settings)


def _pause(error: TunnelError, failures: int, pace: Pace) -> float:
    """Doubled with every failure on end, for each start costs requests; never less than the refusal says."""
    said = error.pause_seconds if error.pause_seconds > SOON else 0.0
    return max(said, min(pace.pause * 2.0 ** max(0, failures - 1), LATER))


async def _one(settings: Settings, port: int, pace: Pace) -> None:
    """From its opening to its end. Raises TunnelError."""
    state.tell(settings, Tunnel(Stand.STARTING))
    door = Door(settings.masuka_host, port, "")
    await _alive(door, pace)
    found = await _program(settings)
    token = settings.ngrok_auth_token.get_secret_value()
    async with agent.running(found, settings.masuka_data_dir / "tunnel", token) as run:
        url = await run.connect(base_url(door.host, port), pace.connect)
        await _reached(url, door, pace)
        state.tell(settings, Tunnel(Stand.OPEN, url))
        log.info("tunnel_open", url=url)
        await _watch(run, url, door, pace)


async def _program(settings: Settings) -> Path:
    """Raises TunnelError."""
    try:
        async with asyncio.timeout(FETCH_SECONDS):
            return await asyncio.to_thread(program.provide, settings)
    except TimeoutError as exc:
        raise TunnelError("ngrok's program takes too long to fetch.", code="ngrok_not_fetched") from exc


async def _alive(door: Door, pace: Pace) -> None:
    """Before the API is there, nothing leads to it."""
    while True:
        if await lives(door):
            return
        await asyncio.sleep(pace.again)


async def _watch(run: Agent, url: str, door: Door, pace: Pace) -> None:
    """Until it is lost. Raises TunnelError."""
    clock = asyncio.get_running_loop().time
    asked = clock()
    run.suspicious = False
    while True:
        await asyncio.sleep(pace.look)
        if url not in [address.rstrip("/") for address in await run.endpoints()]:
            raise TunnelError("ngrok has closed the address.", code="tunnel_lost")
        if clock() - asked >= (pace.soonest if run.suspicious else pace.check):
            run.suspicious = False
            await _reached(url, door, pace)
            asked = clock()


async def _reached(url: str, door: Door, pace: Pace) -> None:
    """Return when the address answers, asked as anybody would. Raises TunnelError."""
    for _ in range(TRIES):
        await _alive(door, pace)  # else it is not the tunnel that is silent
        if await _answers(url):
            return
        await asyncio.sleep(pace.again)
    raise TunnelError(f"{url} does not answer from outside.", code="tunnel_lost", hint="It is opened anew by itself.")


async def _answers(url: str) -> bool:
    try:
        async with httpx.AsyncClient(timeout=10.0, headers=SKIP_WARNING) as http:
            answer = await http.get(f"{url}/health")
    except httpx.HTTPError:
        return False
    code = answer.headers.get("ngrok-error-code", "")
    if code in _TELLING:
        raise refusal(code)
    return answer.status_code == httpx.codes.OK and answer.text.replace(" ", "") == '{"status":"ok"}'


_TELLING = frozenset(f"ERR_NGROK_{number}" for number in (702, 717, 718, 720, 725, 726, 727, 734, 4027))
"""Refusals at the address itself that a new start would not change."""

if __name__ == "__main__":
    sys.exit(main())
