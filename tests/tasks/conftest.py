"""A dispatcher with real servers, whose jobs do what the test says."""

from collections.abc import AsyncIterator

import pytest

from api.domain.job import Kind, Queue
from api.resources import Resources, open_resources
from api.settings import Settings
from api.tasks.dispatch import Dispatcher
from tests.tasks.stage import Stage, on_duty


@pytest.fixture
async def resources(settings: Settings, valkey_url: str) -> AsyncIterator[Resources]:
    async with open_resources(settings, valkey_url) as opened:
        yield opened


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
async def dispatcher(resources: Resources, stage: Stage) -> AsyncIterator[Dispatcher]:
    """On duty, like a worker."""
    opened = Dispatcher(resources, Queue.GPU, dict.fromkeys(Kind, stage.run))
    async with on_duty(opened):
        yield opened
