"""A part of the web, and a client of it."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.https_server import HttpsServer, Reach, https_server, reaching


@pytest.fixture
def server() -> Iterator[HttpsServer]:
    with https_server() as running:
        yield running


@pytest.fixture
async def reach(server: HttpsServer) -> AsyncIterator[Reach]:
    async with reaching(server.port, server.client_context()) as opened:
        yield opened
