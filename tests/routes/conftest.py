"""The service as a client sees it."""

from collections.abc import AsyncIterator

import pytest

from api.settings import Settings
from tests.service import Service, serving, with_values


@pytest.fixture
def service_settings(settings: Settings, valkey_url: str) -> Settings:
    """SQLite, local disk and a real Valkey."""
    return with_values(settings, redis_url=valkey_url)


@pytest.fixture
async def service(service_settings: Settings) -> AsyncIterator[Service]:
    async with serving(service_settings) as opened:
        yield opened


@pytest.fixture(params=["sqlite, disk", "postgres, s3"])
async def any_service(request: pytest.FixtureRequest, service_settings: Settings) -> AsyncIterator[Service]:
    """The service on each pair of back ends."""
    settings = service_settings
    if request.param != "sqlite, disk":
        bucket: Settings = request.getfixturevalue("s3_settings")
        database: str = request.getfixturevalue("postgres_url")
        settings = with_values(bucket, redis_url=settings.redis_url, database_url=database)
    async with serving(settings) as opened:
        yield opened
