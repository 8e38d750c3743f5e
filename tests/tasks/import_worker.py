"""A real cpu worker whose web is the test's own: `python -m tests.tasks.import_worker PORT CA.pem`."""

import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from api.domain.job import Kind, Queue
from api.resources import Resources
from api.tasks.import_model import import_model
from api.tasks.reconcile import reconcile_forever
from api.worker import Equipment, run
from tests.https_server import reaching


@asynccontextmanager
async def equip(resources: Resources) -> AsyncIterator[Equipment]:
    port, authority = int(sys.argv[1]), ssl.create_default_context(cafile=sys.argv[2])
    async with reaching(port, authority) as reach:
        yield Equipment({Kind.IMPORT: partial(import_model, reach.web)}, (reconcile_forever(resources),))


if __name__ == "__main__":
    sys.exit(run(Queue.CPU, equip))
