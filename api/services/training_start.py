"""The start of a training: preflight first, so that what cannot work is refused before anything is written.

Looking at pictures takes seconds, and SQLite has one writer: a `session` given here must not have written yet. All
raise FaultsError `preflight_failed`, and what the service raises that writes the rows.
"""

from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.domain.training import FluxTrainingConfig
from api.models import Job, TrainingSession
from api.resources import Resources
from api.services import bases, continuing, jobs, preflight, trainer_options, trainings, workers
from api.services.continuing import CloneRequest, ExtendRequest
from api.services.preflight import Plan
from api.services.trainings import TrainFluxRequest


async def start(resources: Resources, session: AsyncSession, request: TrainFluxRequest) -> TrainingSession:
    """The rows of a training, with what was found about its dataset."""
    settings = resources.settings
    installed = await workers.installed_bases(resources.redis, settings)
    trainer = await trainer_options.named_version(resources.redis, settings, request.expert)
    config = trainings.resolve(settings, request)
    base_model = bases.choose(settings, installed, named=request.base_model)
    found = await preflight.require(resources, request.dataset_id, Plan(config, base_model, request.name))
    row = await trainings.submit(session, settings, installed, request, trainer=trainer)
    row.preflight = found.report.summary()
    return row


async def extend(
    resources: Resources, session: AsyncSession, session_id: UUID, request: ExtendRequest
) -> TrainingSession:
    parent = await _session(resources, session_id)
    installed = await workers.installed_bases(resources.redis, resources.settings)
    found = await _of_session(resources, parent, name=request.name)
    row = await continuing.extend(session, resources.settings, installed, session_id, request)
    row.preflight = found
    return row


async def clone(
    resources: Resources, session: AsyncSession, session_id: UUID, request: CloneRequest
) -> TrainingSession:
    settings, parent = resources.settings, await _session(resources, session_id)
    named = request.expert or parent.config.get("expert", {})
    trainer = await trainer_options.named_version(resources.redis, settings, named)
    installed = await workers.installed_bases(resources.redis, settings)
    config, base_model = continuing.cloned(parent, request)
    found = await _of_session(resources, parent, name=request.name, config=config, base_model=base_model)
    row = await continuing.clone(session, settings, installed, session_id, request, trainer=trainer)
    row.preflight = found
    return row


async def resume(resources: Resources, session: AsyncSession, session_id: UUID) -> tuple[TrainingSession, int]:
    """The session with its new job, and the step that it goes on from."""
    found = await _of_session(resources, await _session(resources, session_id))
    row, step = await continuing.resume(session, session_id)
    row.preflight = found
    return row, step


async def retry(resources: Resources, session: AsyncSession, job_id: UUID) -> Job:
    """A new job for one of any kind; of a training it is a start like others."""
    async with resources.sessions() as reading:
        row = await reading.scalar(sa.select(TrainingSession).where(col(TrainingSession.task_id) == job_id))
    found = await _of_session(resources, row) if row else None
    job = await jobs.retry(session, job_id)
    if row:
        (await trainings.get(session, row.id)).preflight = found
    return job


async def _session(resources: Resources, session_id: UUID) -> TrainingSession:
    """Read apart, so that no connection is held while pictures are looked at. Raises NotFoundError."""
    async with resources.sessions() as reading:
        return await trainings.get(reading, session_id)


async def _of_session(
    resources: Resources,
    row: TrainingSession,
    *,
    name: str | None = None,
    config: FluxTrainingConfig | None = None,
    base_model: str | None = None,
) -> dict[str, Any] | None:
    """What is found about the version that this session is trained on; None when its dataset is gone."""
    if row.dataset_id is None:
        return None
    plan = Plan(
        config=config or trainings.config_of(row),
        base_model=base_model or row.config["base_model"],
        name=name or row.name,
        version_id=row.dataset_version_id,
    )
    return (await preflight.require(resources, row.dataset_id, plan)).report.summary()
