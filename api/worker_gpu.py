"""`python -m api.worker_gpu`: draws, trains and captions, with a ComfyUI, trainers and captioners of its own."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from api.domain.job import Kind, Queue
from api.resources import Resources
from api.tasks.canvas import serve_canvas_forever
from api.tasks.canvas_pictures import keep_pictures_forever
from api.tasks.caption import caption
from api.tasks.forget import forget_forever
from api.tasks.generate import generate
from api.tasks.gpu import open_gpu
from api.tasks.reconcile import Lapsed, end_lost
from api.tasks.strays import stop_strays, stop_strays_forever
from api.tasks.train import train
from api.worker import Equipment, run


@asynccontextmanager
async def equip(resources: Resources) -> AsyncIterator[Equipment]:
    async with open_gpu(resources) as kit:
        # First of all, what a worker that died has left: its training goes on before anything else takes the GPU.
        await end_lost(resources, Lapsed())
        await stop_strays(resources)
        runners = {
            Kind.IMAGE: partial(generate, kit),
            Kind.TRAINING: partial(train, kit),
            Kind.CAPTION: partial(caption, kit),
        }
        duties = (
            stop_strays_forever(resources),
            forget_forever(resources),
            serve_canvas_forever(kit, resources),
            keep_pictures_forever(kit, resources),
        )
        yield Equipment(runners, duties, kit.state, kit.survey)


if __name__ == "__main__":
    sys.exit(run(Queue.GPU, equip))
