"""`masuka up`, `worker` and `serve`: the service, all of it or one part."""

import asyncio
import contextlib
import os
import sys
from typing import Annotated

import typer

from api import redis_server, supervisor
from api.commands.console import reporting
from api.domain.job import Queue
from api.errors import EX_CONFIG
from api.redis_address import socket_path
from api.settings import load_settings

StopTraining = Annotated[
    bool, typer.Option("--stop-training", help="At the end, stop trainers at a training checkpoint; else they go on.")
]


def up(
    host: Annotated[str | None, typer.Option(help="Address to listen on; default MASUKA_HOST.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; 0 takes a free one; default MASUKA_PORT.")
    ] = None,
    stop_training: StopTraining = False,
) -> None:
    """Start everything: Valkey (unless REDIS_URL is set), the API and the workers. One Ctrl-C ends all."""
    _wish(stop_training)
    with reporting():
        settings = load_settings()
        chosen_port = settings.masuka_port if port is None else port
        code = asyncio.run(supervisor.up(settings, host or settings.masuka_host, chosen_port, _tell))
    raise typer.Exit(code)


def _tell(name: str, line: str) -> None:
    with contextlib.suppress(OSError):  # whoever watched is gone; the service goes on, and so do its log files
        sys.stderr.write(f"{name:>10} | {line}\n")


def worker(queue: Annotated[Queue, typer.Argument(help="gpu or cpu.")], stop_training: StopTraining = False) -> None:
    """Run one worker, as for production: DATABASE_URL and REDIS_URL say where the work is."""
    _wish(stop_training)
    _become(f"api.worker_{queue}")


def _wish(stop_training: bool) -> None:
    """For this process's settings and for those of the processes that it starts or becomes."""
    if stop_training:
        os.environ["MASUKA_STOP_TRAINING"] = "1"


def serve() -> None:
    """Run the API alone, as for production."""
    _become("api.serve")


def _become(module: str) -> None:
    """Replace this process, so that signals and exit codes are the part's own."""
    with reporting():
        settings = load_settings()
        if not settings.redis_url and not redis_server.answers(socket_path(settings)):
            sys.stderr.write("masuka: there is no Redis: set REDIS_URL, or run `masuka up`, which brings one.\n")
            raise typer.Exit(EX_CONFIG)
    os.execv(sys.executable, [sys.executable, "-m", module])
