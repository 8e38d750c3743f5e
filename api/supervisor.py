"""`masuka up`: Valkey, the API and the workers as one thing that starts, restarts and ends together."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from api import redis_server, token_file
from api.bind import free_port, require_free
from api.child import ChildSpec, Tell, keep
from api.door import Door, lives, tell_when_ready
from api.errors import ConfigError
from api.leftovers import end_leftovers
from api.redis_address import socket_path
from api.scratch import scratch_root
from api.settings import SHORTEST_TOKEN, Settings
from api.signs import Watch

POLL_SECONDS = 0.05
REDIS_SECONDS = 30.0
REDIS_STOP_SECONDS = 3.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MODULES = {"api": "api.serve", "worker-cpu": "api.worker_cpu", "worker-gpu": "api.worker_gpu"}
TUNNEL = "tunnel"
FEW_HEAPS = {"MALLOC_ARENA_MAX": "2"}
"""glibc gives each thread a heap, and each keeps what it once needed: 200 MB more after an upload of large pictures."""


@dataclass(frozen=True, slots=True)
class House:
    """What all children have in common."""

    settings: Settings
    host: str
    port: int
    tell: Tell
    hurry: asyncio.Event
    """Set by the second signal: nobody waits for anything any more."""


async def up(settings: Settings, host: str, port: int, tell: Tell) -> int:
    """Run everything until SIGINT, SIGTERM or SIGHUP; the exit code. A second signal ends it faster.

    Raises ConfigError for an unsafe bind, a port in use, or a data folder that another `masuka up` uses.
    """
    settings.require_safe_bind(host)
    settings.make_data_dir()
    with only_one(settings):
        _lock_the_door(settings, tell)
        stopped, hurry = asyncio.Event(), asyncio.Event()
        for number in STOP_SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, _heard, settings, stopped, hurry, tell)
        await asyncio.to_thread(end_leftovers, _records(settings), tell)
        require_free(host, port)
        house = House(settings, host, port or free_port(host), _told_once(tell), hurry)
        code = await _first(_everything(house), _ended_well(stopped))
        if stopped.is_set():
            tell("masuka", "stopped")
        return code


def _heard(settings: Settings, stopped: asyncio.Event, hurry: asyncio.Event, tell: Tell) -> None:
    if not stopped.is_set():
        trainer = "is stopped at a checkpoint" if settings.masuka_stop_training else "goes on by itself"
        tell("masuka", f"stopping: a picture may be finished, a trainer {trainer}; a second signal ends it faster")
        stopped.set()
    elif not hurry.is_set():
        tell("masuka", "stopping now")
        hurry.set()


async def _ended_well(stopped: asyncio.Event) -> int:
    await stopped.wait()
    return 0


async def _everything(house: House) -> int:
    """Keep all of it running; the exit code of the first child that must not be started again.

    Cancelled, it ends the services first, and Redis when they are gone.
    """
    if house.settings.redis_url:
        return await _services(house)
    redis = asyncio.create_task(keep(_redis(house.settings), house.tell, house.hurry))
    try:
        return await _first(_services_with_redis(house), _result(redis))
    finally:
        redis.cancel()
        await asyncio.gather(redis, return_exceptions=True)


async def _services_with_redis(house: House) -> int:
    await _redis_answers(house.settings)
    return await _services(house)


async def _services(house: House) -> int:
    # Uploads may be larger than a /tmp in memory: temporary files belong on the data disk.
    scratch_root(house.settings).mkdir(exist_ok=True)
    telling = asyncio.create_task(tell_when_ready(_door(house), house.tell))
    try:
        modules = {**MODULES, **({TUNNEL: "api.keep_tunnel"} if house.settings.wants_tunnel else {})}
        return await _first(*(keep(_service(house, *module), house.tell, house.hurry) for module in modules.items()))
    finally:
        telling.cancel()


def _service(house: House, name: str, module: str) -> ChildSpec:
    mine = {
        "MASUKA_HOST": house.host,
        "MASUKA_PORT": str(house.port),
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(scratch_root(house.settings)),
    }
    return ChildSpec(
        name,
        (sys.executable, "-m", module),
        {**FEW_HEAPS, **os.environ, **mine},
        house.settings.masuka_data_dir / "logs" / f"{name}.log",
        watch=Watch(house.settings.masuka_hang_seconds, partial(lives, _door(house)) if name == "api" else None),
        record=_records(house.settings) / f"{name}.json",
    )


def _lock_the_door(settings: Settings, tell: Tell) -> None:
    """With a tunnel, a token is wanted. Raises ConfigError for one that could be guessed."""
    if not settings.wants_tunnel:
        return
    if not settings.masuka_api_token.get_secret_value() and token_file.ensure(settings.masuka_data_dir):
        shown = settings.api_token if sys.stderr.isatty() else "`masuka token` prints it"
        tell("masuka", f"the API wants a token from now on, shown here once: {shown}")
    if len(settings.api_token) < SHORTEST_TOKEN:
        raise ConfigError(
            f"MASUKA_API_TOKEN has fewer than {SHORTEST_TOKEN} characters, and the tunnel is open to everybody.",
            code="token_too_short",
            hint="Leave it empty: one is made; `masuka token` prints it. Or run without NGROK_AUTH_TOKEN.",
        )


def _door(house: House) -> Door:
    return Door(house.host, house.port, house.settings.api_token)


def _redis(settings: Settings) -> ChildSpec:
    async def before() -> None:
        await asyncio.to_thread(redis_server.prepare, settings)

    async def lives() -> bool:
        return await asyncio.to_thread(redis_server.lives, socket_path(settings))

    return ChildSpec(
        "redis",
        tuple(redis_server.command(settings)),
        {"PATH": os.defpath},
        settings.masuka_data_dir / "logs" / "redis.log",
        before,
        Watch(settings.masuka_hang_seconds, lives),
        _records(settings) / "redis.json",
        REDIS_STOP_SECONDS,
    )


async def _redis_answers(settings: Settings) -> None:
    deadline = time.monotonic() + REDIS_SECONDS
    while not await asyncio.to_thread(redis_server.answers, socket_path(settings)):
        if time.monotonic() > deadline:
            raise ConfigError(
                "The embedded Redis does not start.",
                code="redis_not_started",
                hint=f"Its log is {settings.masuka_data_dir / 'logs' / 'redis.log'}; or set REDIS_URL.",
            )
        await asyncio.sleep(POLL_SECONDS)


# ---- work that ends together -------------------------------------------------------------------------------------


async def _first(*works: Coroutine[Any, Any, int]) -> int:
    """What the first of them answers or raises, once the others have been cancelled and are done."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return max(task.result() for task in done)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _result(task: asyncio.Task[int]) -> int:
    """What the task answers; a cancellation of the waiting does not reach it."""
    return await asyncio.shield(task)


# ---- what is told ------------------------------------------------------------------------------------------------


def _told_once(tell: Tell) -> Tell:
    """Every service finds the same wrong setting; people need to read it once."""
    told: set[str] = set()

    def tell_news(name: str, line: str) -> None:
        if line.startswith("masuka: "):
            if line in told:
                return
            told.add(line)
        tell(name, line)

    return tell_news


# ---- the data folder ---------------------------------------------------------------------------------------------


def _records(settings: Settings) -> Path:
    """Where the children are written down while they run."""
    return settings.masuka_data_dir / "run"


@contextlib.contextmanager
def only_one(settings: Settings) -> Iterator[None]:
    """Hold the data folder. Raises ConfigError when another `masuka up` does."""
    lock = FileLock(settings.masuka_data_dir / "masuka.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as exc:
        raise ConfigError(
            "MASUKA already runs with this data folder.",
            code="already_running",
            value=str(settings.masuka_data_dir),
            hint="Use the one that runs, stop it, or set MASUKA_DATA_DIR to another folder.",
        ) from exc
    try:
        yield
    finally:
        lock.release()
