"""Which nodes workflows may use, and what they take: as this ComfyUI says, or as the pinned one did."""

from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

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
    taken_at = await session.scalar(sa.select(col(EngineSnapshot.taken_at)).where(col(EngineSnapshot.engine) == ENGINE))
    specs = shipped["nodes"] if taken_at is None else await _nodes(session, taken_at)
    return NodeCatalogue(specs, {*shipped["nodes"], *settings.masuka_allowed_nodes}, frozenset(shipped["refused"]))


async def _nodes(session: AsyncSession, taken_at: datetime) -> Mapping[str, Spec]:
    """Of the snapshot of that time: 70 KB of JSON, which is not read anew for each picture."""
    if taken_at not in _LAST:
        snapshot = await session.get_one(EngineSnapshot, ENGINE)
        _LAST.clear()
        _LAST[snapshot.taken_at] = snapshot.nodes
        return snapshot.nodes
    return _LAST[taken_at]


_LAST: dict[datetime, Mapping[str, Spec]] = {}
"""The snapshot that was read last, by its time."""


async def record(sessions: Sessions, object_info: Mapping[str, Spec]) -> None:
    """Keep the answer of `/object_info` for whoever judges workflows while ComfyUI sleeps."""
    async with sessions.begin() as session:
        await session.merge(EngineSnapshot(engine=ENGINE, nodes=slim(object_info), taken_at=utcnow()))
