"""The servers that the tests start must not outlive them, however a test process ends."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from tests.servers import remove_sockets

CHILD = """
import pathlib, psutil, sys
from tests import servers
servers.TEMPORARY = pathlib.Path(sys.argv[1])
with servers.valkey_server(), servers.postgres_server(), servers.s3_server():
    print(*[child.pid for child in psutil.Process().children(recursive=True)], flush=True)
    sys.stdin.read()
"""
END_SECONDS = 10


def test_servers_end_when_the_test_process_is_killed() -> None:
    with TemporaryDirectory(prefix="masuka-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        arguments = [sys.executable, "-c", CHILD, folder]
        with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            children = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
            names = {child.name() for child in children}
            ports = [int(port) for child in children for port in re.findall(r"grpc=(\d+)", " ".join(child.cmdline()))]
            parent.kill()

        assert {"valkey-server", "postgres", "weed"} <= names
        wait_for(lambda: not any(is_alive(child) for child in children))
        remove_sockets(ports)


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + END_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
