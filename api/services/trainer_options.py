"""Which SimpleTuner trains here, and which of its own options a request may set."""

from collections.abc import Mapping

from redis.asyncio import Redis

from api.domain import expert
from api.domain.expert import Value
from api.domain.job import Queue
from api.engines import catalogue, locate
from api.services.workers import pulse
from api.settings import Settings
from api.trainer.option_list import options_of


async def trainer_version(redis: Redis, settings: Settings) -> str:
    """What the GPU worker says, or what is on this machine when it does not answer.

    Raises UnavailableError `engine_not_installed`.
    """
    said = await pulse(redis, Queue.GPU)
    return said["trainer"] if said and said.get("trainer") else locate.simpletuner(settings).version


async def named_version(redis: Redis, settings: Settings, options: Mapping[str, Value]) -> str | None:
    """The same for whoever names options; for all others it does not matter. Raises as `trainer_version` does."""
    return await trainer_version(redis, settings) if options else None


def require(options: Mapping[str, Value], version: str | None, base_model: str) -> None:
    """Raises FaultsError `expert_refused`, UnavailableError `trainer_options_unknown`."""
    if options and version is not None:
        expert.check(options, options_of(version), version, catalogue.get(base_model).family)
