"""The canvas between the jobs: when its prompts would hurt one, and which LoRAs it may name."""

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.domain.job import Kind, Status
from api.errors import ConflictError
from api.models import Job, Model
from api.services import loras

MOST_LORAS = 2000


async def training_runs(session: AsyncSession) -> bool:
    """Whether a job has claimed the GPU for itself."""
    exclusive = [kind.value for kind in Kind if kind.exclusive]
    running = sa.exists().where(col(Job.status) == Status.RUNNING.value, col(Job.kind).in_(exclusive))
    return bool(await session.scalar(sa.select(running)))


async def require_harmless(session: AsyncSession) -> None:
    """Raises ConflictError while a prompt of the canvas could cost a job its memory or its attempt."""
    if await training_runs(session):
        raise ConflictError(
            "A training has the GPU, so nothing is drawn by hand until it has ended.",
            code="canvas_training_running",
            hint="Go on editing, and queue again after the training; or cancel the training.",
        )
    again = sa.exists().where(
        col(Job.status) == Status.RUNNING.value, col(Job.kind) == Kind.IMAGE.value, col(Job.attempt) > 1
    )
    if await session.scalar(sa.select(again)):
        raise ConflictError(
            "A picture is tried again, alone with ComfyUI, so nothing is drawn by hand until it has ended.",
            code="canvas_job_alone",
            hint="Queue again in a moment.",
        )


async def lora_names(session: AsyncSession) -> list[str]:
    """The files of all LoRAs in the library, as ComfyUI's loaders are to name them; newest first."""
    newest = sa.select(Model).where(loras.VISIBLE).order_by(col(Model.created_at).desc()).limit(MOST_LORAS)
    return list(dict.fromkeys(model.file_name for model in await session.scalars(newest)))
