"""`masuka up`: Valkey, the API and the workers as one thing that starts, restarts and ends together."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
from filelock import FileLock, Timeout

from api import redis_server
from api.child import Child, ChildSpec
from api.errors import ConfigError
from api.settings import Settings, is_loopback

READY_POLL_SECONDS = 0.1
REDIS_SECONDS = 30.0

Tell = Callable[[str, str], None]
"""(name of the process, line)"""


async def up(settings: Settings, host: str, port: int, tell: Tell) -> int:
    """Run everything until SIGINT or SIGTERM; the exit code.

    Raises ConfigError for an unsafe bind, a port in use, or a data folder that another `masuka up` uses.
    """
    settings.require_safe_bind(host)
    port = port or free_port(host)
    require_free(host, port)
    settings.masuka_data_dir.mkdir(parents=True, exist_ok=True)
    with only_one(settings):
        env = {**os.environ, "MASUKA_HOST": host, "MASUKA_PORT": str(port), "PYTHONUNBUFFERED": "1"}
        env |= {"TMPDIR": str(_temporary(settings))}  # uploads may be larger than a /tmp in memory
        return await _run(settings, env, host, port, tell)


async def _run(settings: Settings, env: dict[str, str], host: str, port: int, tell: Tell) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    redis, rest = (
        [Child(spec, tell) for spec in _redis(settings)],
        [Child(spec, tell) for spec in _services(settings, env)],
    )
    running: dict[asyncio.Task[int], Child] = {}
    stopping = asyncio.create_task(stop.wait())
    watching: asyncio.Task[None] | None = None
    try:
        for child in redis:
            running[asyncio.create_task(child.run())] = child
            await _redis_answers(settings)
        for child in rest:
            running[asyncio.create_task(child.run())] = child
        watching = asyncio.create_task(_tell_when_ready(settings, host, port, tell))
        done, _ = await asyncio.wait({stopping, *running}, return_when=asyncio.FIRST_COMPLETED)
        ended = [task for task in running if task in done]
        return 0 if stop.is_set() else max(running_task.result() for running_task in ended)
    finally:
        stopping.cancel()
        if watching is not None:
            watching.cancel()
        await asyncio.gather(*(child.stop() for child in rest))
        await asyncio.gather(*(child.stop() for child in redis))
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _services(settings: Settings, env: dict[str, str]) -> list[ChildSpec]:
    logs = settings.masuka_data_dir / "logs"
    modules = {"api": ("api.serve",), "worker-cpu": ("api.worker", "cpu"), "worker-gpu": ("api.worker", "gpu")}
    return [
        ChildSpec(name, (sys.executable, "-m", *module), env, logs / f"{name}.log") for name, module in modules.items()
    ]


def _redis(settings: Settings) -> list[ChildSpec]:
    """The embedded server, unless the user has one."""
    if settings.redis_url:
        return []

    async def before() -> None:
        redis_server.prepare(settings)

    command = tuple(redis_server.command(settings))
    return [ChildSpec("redis", command, {"PATH": os.defpath}, settings.masuka_data_dir / "logs" / "redis.log", before)]


async def _redis_answers(settings: Settings) -> None:
    deadline = time.monotonic() + REDIS_SECONDS
    while not await asyncio.to_thread(redis_server.answers, redis_server.socket_path(settings)):
        if time.monotonic() > deadline:
            raise ConfigError(
                "The embedded Redis does not start.",
                code="redis_not_started",
                hint=f"Its log is {settings.masuka_data_dir / 'logs' / 'redis.log'}; or set REDIS_URL.",
            )
        await asyncio.sleep(0.02)


async def _tell_when_ready(settings: Settings, host: str, port: int, tell: Tell) -> None:
    began = time.monotonic()
    url = base_url(host, port)
    headers = {"Authorization": f"Bearer {settings.api_token}"} if settings.api_token else {}
    async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if (await client.get("/ready")).status_code == httpx.codes.OK:
                    tell(
                        "masuka",
                        f"ready at {url} after {time.monotonic() - began:.1f} s; its API is described at {url}/docs",
                    )
                    return
            await asyncio.sleep(READY_POLL_SECONDS)


# ---- the machine -------------------------------------------------------------------------------------------------


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


def _temporary(settings: Settings) -> Path:
    path = settings.masuka_data_dir / "tmp"
    path.mkdir(parents=True, exist_ok=True)
    return path


def base_url(host: str, port: int) -> str:
    """Where a client on this machine reaches a service bound to `host`."""
    near = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    return f"http://[{near}]:{port}" if ":" in near else f"http://{near}:{port}"


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def free_port(host: str) -> int:
    with socket.socket(_family(host)) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def require_free(host: str, port: int) -> None:
    """Raises ConfigError `port_in_use`, or `host_invalid` for an address that this machine does not have."""
    with socket.socket(_family(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as exc:
            code = "port_in_use" if is_loopback(host) or "in use" in str(exc) else "host_invalid"
            raise ConfigError(
                f"Cannot listen on {host}:{port}: {exc.strerror}.",
                code=code,
                value=f"{host}:{port}",
                hint="Choose another port with --port or MASUKA_PORT.",
            ) from exc
