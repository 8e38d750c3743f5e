"""`python -m api.worker_cpu`: makes true what crashes left untrue, and delivers webhooks."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from api.domain.job import Queue
from api.resources import Resources
from api.tasks.deliver import deliver_forever, forget_deliveries_forever
from api.tasks.purge_assets import purge_assets_forever
from api.tasks.reconcile import reconcile_forever
from api.tasks.sweep_inputs import sweep_inputs_forever
from api.worker import Equipment, run


@asynccontextmanager
async def equip(resources: Resources) -> AsyncIterator[Equipment]:
    yield Equipment(
        duties=(
            reconcile_forever(resources),
            sweep_inputs_forever(resources),
            purge_assets_forever(resources),
            deliver_forever(resources),
            forget_deliveries_forever(resources),
        )
    )


if __name__ == "__main__":
    sys.exit(run(Queue.CPU, equip))
