"""`python -m api.worker_cpu`: makes true what crashes left untrue, brings LoRAs from the web, delivers webhooks."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from api.domain.job import Kind, Queue
from api.fetch.web import open_web
from api.resources import Resources
from api.tasks.back_up import back_up_forever
from api.tasks.deliver import deliver_forever, forget_deliveries_forever
from api.tasks.import_model import import_model
from api.tasks.purge_assets import purge_assets_forever
from api.tasks.reconcile import reconcile_forever
from api.tasks.sweep_inputs import sweep_inputs_forever
from api.tasks.tidy_candidates import tidy_candidates_forever
from api.tasks.tidy_library import tidy_library_forever
from api.worker import Equipment, run


@asynccontextmanager
async def equip(resources: Resources) -> AsyncIterator[Equipment]:
    async with open_web() as web:
        duties = (
            reconcile_forever(resources),
            sweep_inputs_forever(resources),
            tidy_library_forever(resources),
            tidy_candidates_forever(resources),
            purge_assets_forever(resources),
            deliver_forever(resources),
            forget_deliveries_forever(resources),
            back_up_forever(resources),
        )
        yield Equipment({Kind.IMPORT: partial(import_model, web)}, duties)


if __name__ == "__main__":
    sys.exit(run(Queue.CPU, equip))
