"""`masuka up`: Valkey, the API and the workers as one thing that starts, restarts and ends together."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Coroutine, Iterator
from typing import Any

from filelock import FileLock, Timeout

from api import redis_server
from api.bind import base_url, free_port, reachable, require_free
from api.child import ChildSpec, Tell, keep
from api.errors import ConfigError
from api.redis_address import socket_path
from api.scratch import scratch_root
from api.settings import Settings

POLL_SECONDS = 0.05
REDIS_SECONDS = 30.0
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MODULES = {"api": "api.serve", "worker-cpu": "api.worker_cpu", "worker-gpu": "api.worker_gpu"}


async def up(settings: Settings, host: str, port: int, tell: Tell) -> int:
    """Run everything until SIGINT, SIGTERM or SIGHUP; the exit code.

    Raises ConfigError for an unsafe bind, a port in use, or a data folder that another `masuka up` uses.
    """
    settings.require_safe_bind(host)
    settings.make_data_dir()
    with only_one(settings):
        require_free(host, port)
        port = port or free_port(host)
        stopped = asyncio.Event()
        for number in STOP_SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        return await _first(_everything(settings, host, port, _told_once(tell)), _ended_well(stopped))


async def _ended_well(stopped: asyncio.Event) -> int:
    await stopped.wait()
    return 0


async def _everything(settings: Settings, host: str, port: int, tell: Tell) -> int:
    """Keep all of it running; the exit code of the first child that must not be started again.

    Cancelled, it ends the services first, and Redis when they are gone.
    """
    if settings.redis_url:
        return await _services(settings, host, port, tell)
    redis = asyncio.create_task(keep(_redis(settings), tell))
    try:
        return await _first(_services_with_redis(settings, host, port, tell), _result(redis))
    finally:
        redis.cancel()
        await asyncio.gather(redis, return_exceptions=True)


async def _services_with_redis(settings: Settings, host: str, port: int, tell: Tell) -> int:
    await _redis_answers(settings)
    return await _services(settings, host, port, tell)


async def _services(settings: Settings, host: str, port: int, tell: Tell) -> int:
    # Uploads may be larger than a /tmp in memory: temporary files belong on the data disk.
    scratch_root(settings).mkdir(exist_ok=True)
    mine = {
        "MASUKA_HOST": host,
        "MASUKA_PORT": str(port),
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(scratch_root(settings)),
    }
    logs = settings.masuka_data_dir / "logs"
    specs = [
        ChildSpec(name, (sys.executable, "-m", module), {**os.environ, **mine}, logs / f"{name}.log")
        for name, module in MODULES.items()
    ]
    telling = asyncio.create_task(_tell_when_ready(settings, host, port, tell))
    try:
        return await _first(*(keep(spec, tell) for spec in specs))
    finally:
        telling.cancel()


def _redis(settings: Settings) -> ChildSpec:
    async def before() -> None:
        await asyncio.to_thread(redis_server.prepare, settings)

    command = tuple(redis_server.command(settings))
    return ChildSpec("redis", command, {"PATH": os.defpath}, settings.masuka_data_dir / "logs" / "redis.log", before)


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


async def _tell_when_ready(settings: Settings, host: str, port: int, tell: Tell) -> None:
    began, url = time.monotonic(), base_url(host, port)
    while True:
        if await _is_ready(settings, host, port):
            tell("masuka", f"ready at {url} after {time.monotonic() - began:.1f} s; its API is described at {url}/docs")
            return
        await asyncio.sleep(POLL_SECONDS)


async def _is_ready(settings: Settings, host: str, port: int) -> bool:
    """Ask `/ready`, without an HTTP client, which takes longer to load than the question to answer."""
    token = f"Authorization: Bearer {settings.api_token}\r\n" if settings.api_token else ""
    question = f"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{token}\r\n"
    try:
        reader, writer = await asyncio.open_connection(reachable(host), port)
        try:
            writer.write(question.encode())
            return b" 200 " in await reader.readline()
        finally:
            writer.close()
    except OSError:
        return False


# ---- the data folder ---------------------------------------------------------------------------------------------


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
