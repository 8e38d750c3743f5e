"""The API: one application made from settings, nothing at import."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware

from api import __version__
from api.redis_address import redis_url
from api.resources import Resources, open_resources
from api.routes import (
    asset_files,
    assets,
    batches,
    canvas,
    captioning,
    dataset_captions,
    dataset_details,
    dataset_export,
    dataset_image_files,
    dataset_images,
    dataset_versions,
    datasets,
    docs,
    door,
    generate,
    guard,
    health,
    inputs,
    jobs,
    lock,
    model_cards,
    model_imports,
    models,
    openapi,
    preflight,
    problems,
    progress,
    safe_headers,
    training,
    training_checkpoints,
    training_continue,
    training_grid,
    training_log,
    training_metrics,
    training_presets,
    training_samples,
    training_wishes,
    webhooks,
    workflows,
)
from api.routes.canvas_proxy import Upstream
from api.scratch import sweep
from api.services.datasets import discard_abandoned
from api.services.repetitions import Repetitions
from api.settings import Settings

GZIP_BYTES = 1000
GZIP_LEVEL = 5
NOT_SMALLER = (*DEFAULT_EXCLUDED_CONTENT_TYPES, "image/*", "application/octet-stream")
"""Pictures and LoRAs are dense already, and progress must not wait in a buffer."""
ASKED = ["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "Range", "If-Match", "If-None-Match"]
TOLD = ["ETag", "Content-Range", "Content-Disposition", "Location", "Retry-After", "Idempotency-Replayed"]
"""Headers that web pages of another origin may send, and read."""
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
        title="MASUKA",
        version=__version__,
        description=DESCRIPTION,
        lifespan=lifespan,
        redirect_slashes=True,
        docs_url=None,
        redoc_url=None,
    )
    app.state.lock = lock.Lock(settings.api_token)
    _stand_before(app, settings)
    problems.install(app)
    pictures = (generate, workflows, inputs, assets, asset_files, batches, canvas)
    sets = (
        datasets,
        dataset_details,
        dataset_images,
        dataset_image_files,
        dataset_captions,
        dataset_versions,
        dataset_export,
    )
    records = (training_log, training_metrics, training_samples, training_wishes)
    trainings = (training_presets, training, training_continue, training_checkpoints, training_grid, *records)
    library = (model_imports, models, model_cards)
    for module in (
        health,
        docs,
        door,
        *sets,
        preflight,
        captioning,
        *trainings,
        progress,
        *pictures,
        *library,
        jobs,
        webhooks,
    ):
        app.include_router(module.router)
    openapi.describe(app)
    return app


def _stand_before(app: FastAPI, settings: Settings) -> None:
    """What every request meets, the innermost first."""
    app.add_middleware(guard.Guard, settings=settings, lock=app.state.lock)
    app.add_middleware(
        GZipMiddleware, minimum_size=GZIP_BYTES, compresslevel=GZIP_LEVEL, exclude_content_types=NOT_SMALLER
    )
    app.add_middleware(safe_headers.SafeHeaders)
    if settings.masuka_cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.masuka_cors_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=ASKED,
            expose_headers=TOLD,
        )
