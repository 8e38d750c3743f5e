"""`python -m api.worker_gpu`: draws and trains, with a ComfyUI and trainers of its own."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from api.domain.job import Kind, Queue
from api.resources import Resources
from api.tasks.generate import generate
from api.tasks.gpu import open_gpu
from api.tasks.train import train
from api.worker import Equipment, run


@asynccontextmanager
async def equip(resources: Resources) -> AsyncIterator[Equipment]:
    async with open_gpu(resources) as kit:
        yield Equipment({Kind.IMAGE: partial(generate, kit), Kind.TRAINING: partial(train, kit)}, state=kit.state)


if __name__ == "__main__":
    sys.exit(run(Queue.GPU, equip))
