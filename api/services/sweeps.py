"""Sweeps: one request, up to hundreds of pictures, all of them written in one transaction or none."""

from collections.abc import Collection, Mapping
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.domain.nodes import ModelFiles
from api.domain.sweep import ALONE, Lora, SweepRequest, grouped
from api.models import Batch, GeneratedAsset, Model, TrainingCandidate
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
    rows = await _load(session, request)
    alone = request.base_model or next((row.base_model for row in rows), None)
    plans: dict[Lora, runs.Plan] = {}
    for lora in dict.fromkeys(lora for lora, _ in request.variants()):
        picture = request.picture(lora, alone if lora == ALONE else request.base_model)
        plans[lora] = await generation.plan(session, storage, settings, installed, picture, files)
    variants = grouped(request.variants(), lambda variant: plans[variant[0]].base_model)
    seeds = request.seeds or [runs.random_seed()]
    pictures = [
        (plan, seed)
        for lora, scale in variants
        for prompt in request.prompts
        for plan in [plans[lora].varied(prompt, scale)]
        for seed in seeds
    ]
    batch = Batch(total=len(pictures), request=runs.asked(request))
    return await runs.add(session, pictures, batch)


async def _load(session: AsyncSession, request: SweepRequest) -> list[Model | TrainingCandidate]:
    """The rows that there are, in this order; while they are held, each is found without another statement."""
    named = [row_id for row_id in [*request.models, *request.checkpoints] if row_id is not None]
    found: dict[UUID, Model | TrainingCandidate] = {}
    if request.models:
        models = await session.scalars(sa.select(Model).where(col(Model.id).in_(named)))
        found |= {row.id: row for row in models}
    if request.checkpoints:
        checkpoints = await session.scalars(sa.select(TrainingCandidate).where(col(TrainingCandidate.id).in_(named)))
        found |= {row.id: row for row in checkpoints}
    return [found[row_id] for row_id in named if row_id in found]
