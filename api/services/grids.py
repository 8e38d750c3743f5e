"""A grid: the same pictures by every training checkpoint, written as one batch or not at all."""

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from api.domain.generation import LoraChoice
from api.domain.grid import GridRequest
from api.domain.nodes import ModelFiles
from api.errors import ConflictError, NotFoundError
from api.models import Batch, GeneratedAsset, TrainingCandidate, TrainingSession
from api.services import candidates, generation, runs
from api.settings import Settings
from api.storage import Storage


async def submit(
    session: AsyncSession,
    storage: Storage,
    settings: Settings,
    installed: Collection[str],
    row: TrainingSession,
    request: GridRequest,
    files: Mapping[str, ModelFiles],
) -> list[GeneratedAsset]:
    """All pictures of one training checkpoint together, so that LoRAs are switched least.

    Raises as `generation.submit` does, InputError `grid_too_large`, ConflictError `no_checkpoints`, NotFoundError
    `checkpoint_not_found` for a step that is named and is not there.
    """
    found = await _chosen(session, row, request.steps)
    request.require_size(len(found))
    seeds = request.seeds or [runs.random_seed()]
    choices = [None] if request.without else []
    pictures: list[tuple[runs.Plan, int]] = []
    for candidate in [*choices, *found]:
        choice = None if candidate is None else LoraChoice(checkpoint_id=candidate.id)
        picture = request.picture(choice, row.config["base_model"])
        plan = await generation.plan(session, storage, settings, installed, picture, files)
        scales: Sequence[float | None] = [None] if candidate is None else request.scales
        varied = [plan.varied(prompt, scale) for scale in scales for prompt in request.prompts]
        pictures += [(each, seed) for each in varied for seed in seeds]
    asked = {**runs.asked(request), "training_id": str(row.id), "steps": [candidate.step for candidate in found]}
    return await runs.add(session, pictures, Batch(total=len(pictures), request=asked))


async def _chosen(session: AsyncSession, row: TrainingSession, steps: Sequence[int] | None) -> list[TrainingCandidate]:
    found = await candidates.of_session(session, row.id, steps)
    missing = sorted(set(steps or ()) - {candidate.step for candidate in found})
    if missing:
        raise NotFoundError(
            "This training has no training checkpoint to choose at this step.",
            code="checkpoint_not_found",
            value=missing[0],
            hint="Leave `steps` out to draw with all that there are.",
        )
    if not found:
        raise ConflictError(
            "This training has no training checkpoints to choose from.",
            code="no_checkpoints",
            value=str(row.id),
            hint="Wait for the first one; those of old trainings go after MASUKA_CHECKPOINT_LORA_DAYS.",
        )
    return found
