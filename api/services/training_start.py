"""The start of a training: preflight first, so that what cannot work is refused before anything is written."""

from sqlalchemy.ext.asyncio import AsyncSession

from api.models import TrainingSession
from api.resources import Resources
from api.services import bases, preflight, trainer_options, trainings, workers
from api.services.preflight import Plan
from api.services.trainings import TrainFluxRequest


async def start(resources: Resources, session: AsyncSession, request: TrainFluxRequest) -> TrainingSession:
    """The rows of a training, with what was found about its dataset.

    `session` must not have written yet: looking at pictures takes seconds, and SQLite has one writer.
    Raises what `trainings.submit` raises, and FaultsError `preflight_failed`.
    """
    settings = resources.settings
    installed = await workers.installed_bases(resources.redis, settings)
    trainer = await trainer_options.named_version(resources.redis, settings, request.expert)
    config = trainings.resolve(settings, request)
    base_model = bases.choose(settings, installed, named=request.base_model)
    found = await preflight.require(resources, request.dataset_id, Plan(config, base_model, request.name))
    row = await trainings.submit(session, settings, installed, request, trainer=trainer)
    row.preflight = found.report.summary()
    return row
