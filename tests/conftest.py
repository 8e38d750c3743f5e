"""Fixtures every test may use."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from api.settings import PROJECT_ROOT, Settings
from api.storage import Storage, open_storage
from tests.engines import newer_simpletuner
from tests.servers import PostgresServer, S3Server, postgres_server, s3_server, valkey_server

# A busy machine is slow, not wrong. The same examples every time, so that a change is judged by what it changes; new
# ones are looked for on purpose, with `--hypothesis-profile=explore`.
_patient = hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.register_profile("masuka", _patient, derandomize=True)
hypothesis_settings.register_profile("explore", _patient, derandomize=False)
hypothesis_settings.load_profile("masuka")


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own settings must not reach a test."""
    for name in Settings.model_fields:
        if name != "masuka_engines_dir":
            monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="session")
def engines_dir() -> Path:
    """Where `scripts/test` has installed the real ComfyUI, the real SimpleTuner and flux-tiny."""
    return Path(os.environ.get("MASUKA_ENGINES_DIR") or PROJECT_ROOT / "data" / "engines")


@pytest.fixture(scope="session")
def newer_engines_dir(engines_dir: Path) -> Path:
    """The same engines with SimpleTuner 4.8.0, on Python 3.11, too."""
    return newer_simpletuner.newer_engines_dir(engines_dir, newer_simpletuner.tell)


@pytest.fixture
def settings(tmp_path: Path, engines_dir: Path) -> Settings:
    """Embedded defaults in a folder of the test's own, sharing the installed engines."""
    return Settings(_env_file=None, masuka_data_dir=tmp_path / "data", masuka_engines_dir=engines_dir)


# ---- real servers: one of each per test process, started by the first test that asks --------------------------------


@pytest.fixture(scope="session")
def _valkey() -> Iterator[str]:
    with valkey_server() as server:
        yield server.url


@pytest.fixture
def valkey_url(_valkey: str) -> str:
    """A real Valkey with nothing in it."""
    with redis.Redis.from_url(_valkey) as client:
        client.flushall()
    return _valkey


@pytest.fixture(scope="session")
def _postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def postgres_url(_postgres: PostgresServer) -> Iterator[str]:
    """A new, empty database on a real PostgreSQL."""
    name = f"test_{uuid4().hex}"
    _postgres.run(f"CREATE DATABASE {name}")
    yield _postgres.url(name)
    _postgres.run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest) -> str:
    """DATABASE_URL for each database: empty for the default, SQLite in the data folder."""
    if request.param == "sqlite":
        return ""
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """A real S3 server; its first bucket is shared, so tests use keys of their own."""
    with s3_server() as server:
        yield server


@pytest.fixture
def s3_settings(settings: Settings, s3: S3Server) -> Settings:
    """The same settings, with files in the bucket."""
    return _in_bucket(settings, s3.settings)


@pytest.fixture
def empty_bucket(settings: Settings, s3: S3Server) -> Settings:
    """The same, with a bucket that nobody else uses: backups of two installations do not go into one."""
    return _in_bucket(settings, {**s3.settings, "s3_bucket_name": s3.make_bucket()})


def _in_bucket(settings: Settings, bucket: dict[str, Any]) -> Settings:
    return Settings(
        _env_file=None,
        masuka_data_dir=settings.masuka_data_dir,
        masuka_engines_dir=settings.masuka_engines_dir,
        **bucket,
    )


@pytest.fixture(params=["local", "s3"])
def storage_settings(request: pytest.FixtureRequest) -> Settings:
    """Settings for each place that files can be kept in."""
    found: Settings = request.getfixturevalue("settings" if request.param == "local" else "s3_settings")
    return found


@pytest.fixture
async def storage(storage_settings: Settings) -> AsyncIterator[Storage]:
    """Each place that files can be kept in, open."""
    async with open_storage(storage_settings) as opened:
        yield opened
