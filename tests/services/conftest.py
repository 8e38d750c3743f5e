"""The databases that use cases run on."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.db import Sessions, open_database
from api.settings import Settings


@pytest.fixture
async def sessions(tmp_path: Path, database_url: str) -> AsyncIterator[Sessions]:
    """A new, migrated database of each kind."""
    settings = Settings(_env_file=None, masuka_data_dir=tmp_path / "data", database_url=database_url)
    async with open_database(settings) as opened:
        yield opened
