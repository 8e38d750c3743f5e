"""The pictures that are waited for, and so what they need must stay."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.domain.job import Kind, Status
from api.models import GeneratedAsset

WAITING = (Status.PENDING.value, Kind.IMAGE.running_word)
"""What an asset shows until its job has ended."""


async def configs(session: AsyncSession) -> list[dict[str, Any]]:
    """`generation_config` of every picture that is pending or being made."""
    config = sa.select(col(GeneratedAsset.generation_config))
    return list(await session.scalars(config.where(col(GeneratedAsset.status).in_(WAITING))))
