"""The API: one application made from settings, nothing at import."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from fastapi import FastAPI

from api import __version__
from api.redis_address import redis_url
from api.resources import Resources, open_resources
from api.routes import (
    asset_files,
    assets,
    batches,
    canvas,
    datasets,
    generate,
    guard,
    health,
    inputs,
    jobs,
    model_cards,
    model_imports,
    models,
    openapi,
    problems,
    progress,
    training,
    training_checkpoints,
    training_continue,
    training_grid,
    training_presets,
    webhooks,
    workflows,
)
from api.routes.canvas_proxy import Upstream
from api.scratch import sweep
from api.services.datasets import discard_abandoned
from api.services.repetitions import Repetitions
from api.settings import Settings

DESCRIPTION = "Train LoRAs with SimpleTuner and make pictures with ComfyUI on one GPU. Errors are RFC 9457 problems."


class State(TypedDict):
    resources: Resources
    repetitions: Repetitions
    canvas: Upstream


def create_app(settings: Settings) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[State]:
        async with open_resources(settings, redis_url(settings)) as resources:
            sweep(settings)
            await discard_abandoned(resources.sessions, resources.storage)
            async with Upstream(resources.redis, socket.gethostname()) as upstream:
                yield {"resources": resources, "repetitions": Repetitions(resources.sessions), "canvas": upstream}

    app = FastAPI(
        title="MASUKA", version=__version__, description=DESCRIPTION, lifespan=lifespan, redirect_slashes=True
    )
    app.add_middleware(guard.Guard, settings=settings)
    problems.install(app)
    pictures = (generate, workflows, inputs, assets, asset_files, batches, canvas)
    trainings = (training_presets, training, training_continue, training_checkpoints, training_grid)
    library = (model_imports, models, model_cards)
    for module in (health, datasets, *trainings, progress, *pictures, *library, jobs, webhooks):
        app.include_router(module.router)
    openapi.describe(app)
    return app
