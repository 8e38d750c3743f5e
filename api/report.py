"""What somebody needs who is to help: how the installation stands, and the ends of its logs. Every secret is stars."""

import json
import platform
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import SecretStr

from api import __version__, doctor
from api.bind import base_url
from api.client import Api
from api.domain.masking import masked
from api.errors import ConfigError, MasukaError
from api.settings import Settings

LOG_BYTES = 200_000
JOBS = 50
PAGES = {
    "ready.json": "/ready",
    "jobs.json": f"/api/jobs/?limit={JOBS}",
    "sessions.json": f"/api/training/?limit={JOBS}",
}


def write(settings: Settings, path: Path) -> list[str]:
    """The names of what is in it. Whole or not at all; raises ConfigError where it cannot be written."""
    hidden = secrets_of(settings)
    arriving = path.with_name(f".{path.name}.part")
    names = []
    try:
        with zipfile.ZipFile(arriving, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in _parts(settings):
                archive.writestr(name, masked(data, hidden))
                names.append(name)
        arriving.replace(path)
    except OSError as exc:
        raise ConfigError(f"Cannot write {path}: {exc.strerror}.", code="report_not_written", value=str(path)) from exc
    finally:
        arriving.unlink(missing_ok=True)
    return names


def secrets_of(settings: Settings) -> list[str]:
    """As they are and as JSON writes them; longest first, so that one which is part of another leaves nothing of it."""
    values = [getattr(settings, name) for name in Settings.model_fields]
    own = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
    own += [settings.aws_access_key_id, settings.api_token]
    for url in (settings.database_url, settings.redis_url):
        own += [urlsplit(url).password or "", urlsplit(url).query]
    escaped = [json.dumps(secret)[1:-1] for secret in own]
    return sorted({secret for secret in (*own, *escaped) if secret}, key=len, reverse=True)


def _parts(settings: Settings) -> Iterator[tuple[str, bytes]]:
    yield "about.json", _json(_about(settings))
    yield "doctor.json", _json([check.to_dict() for check in doctor.examine(settings)])
    with Api(base_url(settings.masuka_host, settings.masuka_port), settings.api_token) as api:
        for name, address in PAGES.items():
            yield name, _json(_asked(api, address))
    for log in sorted((settings.masuka_data_dir / "logs").glob("*.log")):
        yield f"logs/{log.name}", _end(log)


def _about(settings: Settings) -> dict[str, object]:
    """Which settings are not the defaults, without their values: any of them may tell more than it should."""
    fields = Settings.model_fields.items()
    changed = [name.upper() for name, field in fields if getattr(settings, name) != field.get_default()]
    return {"masuka": __version__, "python": sys.version, "platform": platform.platform(), "settings": changed}


def _asked(api: Api, address: str) -> object:
    try:
        return api.get(address)
    except MasukaError as exc:
        return {"error": str(exc)}


def _end(log: Path) -> bytes:
    """From the beginning of a line."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - LOG_BYTES))
        data = file.read()
    return data if len(data) < LOG_BYTES else data.partition(b"\n")[2]


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2, default=str).encode()
