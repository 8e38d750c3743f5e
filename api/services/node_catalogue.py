"""Which nodes workflows may use, and what they take: as this ComfyUI says, or as the pinned one did."""

from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncSession

from api.comfy import core_nodes
from api.db import Sessions
from api.domain.nodes import NodeCatalogue, Spec, slim
from api.models import EngineSnapshot
from api.models.base import utcnow
from api.settings import Settings

ENGINE = "comfyui"


async def current(session: AsyncSession, settings: Settings) -> NodeCatalogue:
    """What the ComfyUI that was started last said of itself; before the first start, what the pinned one says."""
    shipped = core_nodes.shipped()
    snapshot = await session.get(EngineSnapshot, ENGINE)
    specs = shipped["nodes"] if snapshot is None else snapshot.nodes
    return NodeCatalogue(specs, {*shipped["nodes"], *settings.masuka_allowed_nodes}, frozenset(shipped["refused"]))


async def record(sessions: Sessions, object_info: Mapping[str, Spec]) -> None:
    """Keep the answer of `/object_info` for whoever judges workflows while ComfyUI sleeps."""
    async with sessions.begin() as session:
        await session.merge(EngineSnapshot(engine=ENGINE, nodes=slim(object_info), taken_at=utcnow()))
