"""Where a data folder's Redis is."""

import hashlib
import os
from pathlib import Path
from urllib.parse import quote

from api.settings import Settings

SOCKET_PATH_BYTES = 100
"""The kernel's limit is 107 bytes and a terminating zero; Valkey makes temporary names beside it."""
SHORT_FOLDER = Path("/tmp")
"""Not the temporary folder of the environment: every process of a data folder must find the same socket."""


def socket_path(settings: Settings) -> Path:
    """In the data folder, or, where that is too long for a socket, in /tmp under a name of its own."""
    folder = settings.masuka_data_dir / "redis"
    path = folder / "redis.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
        return path
    digest = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:12]
    return SHORT_FOLDER / f"masuka-{os.getuid()}-{digest}" / "redis.sock"


def redis_url(settings: Settings) -> str:
    """The user's own Redis, or the embedded one."""
    return settings.redis_url or f"unix://{quote(str(socket_path(settings)))}"
