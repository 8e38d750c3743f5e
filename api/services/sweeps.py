"""Sweeps: one request, up to hundreds of pictures, all of them written in one transaction or none."""

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.domain.nodes import ModelFiles
from api.domain.sweep import SweepRequest, grouped
from api.models import Batch, GeneratedAsset, Model
from api.services import generation, runs
from api.settings import Settings
from api.storage import Storage


async def submit(
    session: AsyncSession,
    storage: Storage,
    settings: Settings,
    installed: Collection[str],
    request: SweepRequest,
    files: Mapping[str, ModelFiles],
) -> list[GeneratedAsset]:
    """Validate all of it and write a batch, in the order in which its pictures switch models least.

    That is: all pictures of one base model, of one LoRA, of one scale and of one prompt each together. Raises as
    `generation.submit` does, and InputError `sweep_too_large`.
    """
    request.require_size()
    rows = await _load(session, request.models)
    alone = request.base_model or next((row.base_model for row in rows), None)
    plans: dict[UUID | None, runs.Plan] = {}
    for model_id in dict.fromkeys(model_id for model_id, _ in request.variants()):
        picture = request.picture(model_id, alone if model_id is None else request.base_model)
        plans[model_id] = await generation.plan(session, storage, settings, installed, picture, files)
    variants = grouped(request.variants(), lambda variant: plans[variant[0]].base_model)
    seeds = request.seeds or [runs.random_seed()]
    pictures = [
        (plan, seed)
        for model_id, scale in variants
        for prompt in request.prompts
        for plan in [plans[model_id].varied(prompt, scale)]
        for seed in seeds
    ]
    batch = Batch(total=len(pictures), request=runs.asked(request))
    return await runs.add(session, pictures, batch)


async def _load(session: AsyncSession, ids: Sequence[UUID | None]) -> list[Model]:
    """The rows that there are, in this order, in one statement; while they are held, each is found without another."""
    wanted = [model_id for model_id in ids if model_id is not None]
    if not wanted:
        return []
    found = {row.id: row for row in await session.scalars(sa.select(Model).where(col(Model.id).in_(wanted)))}
    return [found[model_id] for model_id in wanted if model_id in found]
