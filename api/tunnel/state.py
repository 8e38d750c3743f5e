"""How the tunnel stands: told by the process that keeps it, read by whoever wants to know the public address."""

import json
import os
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from api.processes import boot_id, process_start
from api.settings import Settings


class Stand(StrEnum):
    STARTING = "starting"
    OPEN = "open"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Tunnel:
    stand: Stand
    url: str = ""
    """`https://...` without a slash at the end; empty unless it is open."""
    code: str = ""
    detail: str = ""
    """What is wrong and what to do, while it is not open."""


def tell(settings: Settings, tunnel: Tunnel) -> None:
    """With who says so: what a process that is gone has said counts no more. Raises OSError."""
    path = _path(settings)
    path.parent.mkdir(parents=True, exist_ok=True)
    arriving = path.with_suffix(".part")
    by = {"pid": os.getpid(), "start": process_start(os.getpid()), "boot_id": boot_id()}
    arriving.write_text(json.dumps({**asdict(tunnel), "by": by}))
    arriving.replace(path)


def read(settings: Settings) -> Tunnel | None:
    """None while nobody keeps one."""
    try:
        said = json.loads(_path(settings).read_text())
        by = said.pop("by")
        if by["boot_id"] != boot_id() or by["start"] is None or process_start(by["pid"]) != by["start"]:
            return None
        return Tunnel(Stand(said.pop("stand")), **said)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def forget(settings: Settings) -> None:
    _path(settings).unlink(missing_ok=True)


def url(settings: Settings) -> str:
    """The public address; empty while there is none."""
    found = read(settings)
    return found.url if found is not None and found.stand is Stand.OPEN else ""


def host(settings: Settings) -> str:
    """Its name, as browsers send it."""
    return urlsplit(url(settings)).netloc


def _path(settings: Settings) -> Path:
    return settings.masuka_data_dir / "tunnel" / "state.json"
