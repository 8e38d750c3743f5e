"""Trainings that begin where another one is: resumed, extended by more steps, or cloned with changes."""

from collections.abc import Collection
from datetime import timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.domain.job import Status
from api.domain.preset import find
from api.domain.samples import default_prompts
from api.domain.text import Name
from api.domain.training import MAX_STEPS, FluxTrainingConfig, FluxTrainingRequest, resolved
from api.domain.webhook import WebhookUrl
from api.errors import ConflictError, InputError, NotFoundError
from api.models import Dataset, TrainingSession
from api.models.base import utcnow
from api.services import bases, checkpoints, dataset_edits, jobs, trainer_options, trainings, webhooks
from api.services.presets import presets
from api.settings import Settings

GOES_ON = ("pending", "training")


class ExtendRequest(BaseModel):
    """`POST /api/training/{session_id}/extend`."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"example": {"steps": 500}})

    steps: int = Field(ge=1, le=MAX_STEPS, description="Further optimizer steps.")
    name: Name | None = Field(None, description="Default: the parent's.")
    webhook_url: WebhookUrl | None = None


class CloneRequest(FluxTrainingRequest):
    """`POST /api/training/{session_id}/clone`: what is to be different."""

    model_config = ConfigDict(json_schema_extra={"example": {"rank": 16, "alpha": 8, "learning_rate": 5e-5}})

    name: Name | None = Field(None, description="Default: the parent's.")
    base_model: Name | None = Field(None, description="Default: the parent's.")
    preset: Name | None = Field(None, description="Its values go before the parent's.", examples=["24gb-style"])
    webhook_url: WebhookUrl | None = None


async def resume(session: AsyncSession, session_id: UUID) -> tuple[TrainingSession, int]:
    """A new job for a session that failed or was cancelled; the step it is sure to go on from, 0 for none.

    Raises NotFoundError, ConflictError `session_not_resumable`, or `job_superseded` when another was faster.
    """
    row = await trainings.get(session, session_id)
    if row.status not in (Status.FAILED.value, Status.CANCELLED.value):
        raise ConflictError(
            f"Only a failed or cancelled training can be resumed; this one is {row.status}.",
            code="session_not_resumable",
            value=row.status,
            hint="Extend it by more steps, or clone it." if row.status == Status.COMPLETED.value else None,
        )
    await jobs.retry(session, trainings.task_of(row))
    stored = await checkpoints.stored(session, row.id)
    await session.refresh(row)
    return row, max([each.step for each in stored] or [row.start_step])


async def extend(
    session: AsyncSession, settings: Settings, installed: Collection[str], session_id: UUID, request: ExtendRequest
) -> TrainingSession:
    """A new session that goes on from the last working state of a completed one, whose result stays as it is.

    Raises NotFoundError, ConflictError `session_not_completed`, `training_state_gone` or `dataset_gone`, InputError
    `steps_too_many`, UnavailableError when the base model is not installed.
    """
    parent, dataset = await _held(session, session_id)
    # Changes nothing, and holds the row until the end of the transaction: its state is not given up meanwhile.
    completed = sa.update(TrainingSession).where(
        col(TrainingSession.id) == parent.id, col(TrainingSession.status) == Status.COMPLETED.value
    )
    if await session.scalar(completed.values(status=Status.COMPLETED.value).returning(col(TrainingSession.id))) is None:
        raise ConflictError(
            f"Only a completed training can be extended; this one is {parent.status}.",
            code="session_not_completed",
            value=parent.status,
            hint="Resume it, or wait for its end.",
        )
    stored = await checkpoints.stored(session, parent.id)
    if not stored:
        raise ConflictError(
            "The working state of this training is gone, so it cannot go on.",
            code="training_state_gone",
            value=str(parent.id),
            hint="Clone it with more steps, to begin anew. MASUKA_KEEP_COMPLETED_DAYS says how long the state stays.",
        )
    steps = parent.config["steps"] + request.steps
    if steps > MAX_STEPS:
        raise InputError(f"At most {MAX_STEPS} steps in all, got {steps}.", code="steps_too_many", value=steps)
    config = trainings.config_of(parent).model_copy(update={"steps": steps})
    wish = {**parent.config, **config.model_dump(mode="json")}
    return await _child(session, settings, installed, parent, dataset, wish, request, start_step=stored[0].step)


async def clone(
    session: AsyncSession,
    settings: Settings,
    installed: Collection[str],
    session_id: UUID,
    request: CloneRequest,
    *,
    trainer: str | None = None,
) -> TrainingSession:
    """A new session on the same pictures and captions with the same choices, but for what the request changes.

    `trainer`: the version of SimpleTuner. Raises NotFoundError, ConflictError `dataset_gone`, and what `submit` of
    trainings raises for the choices.
    """
    parent, dataset = await _held(session, session_id)
    config, base_model = cloned(parent, request)
    wish = {**parent.config, **config.model_dump(mode="json"), "base_model": base_model}
    wish |= {"preset": request.preset} if request.preset else {}
    if trainer is not None:
        trainer_options.require(config.expert, trainer, base_model)
    return await _child(session, settings, installed, parent, dataset, wish, request)


def cloned(parent: TrainingSession, request: CloneRequest) -> tuple[FluxTrainingConfig, str]:
    """What a clone is trained with, and its base model. Raises InputError for choices that do not go together."""
    preset = find(presets(), request.preset).settings if request.preset else {}
    before, chosen = trainings.config_of(parent), request.chosen()
    word, usual = before.trigger_word, default_prompts(before.trigger_word, ())
    if word and request.trigger_word and before.sample_prompts == usual:
        chosen = {"sample_prompts": default_prompts(request.trigger_word, ()), **chosen}  # with the word that is learnt
    config = resolved(before.model_dump() | preset, chosen)
    return config, request.base_model or parent.config["base_model"]


async def is_awaited(session: AsyncSession, session_id: UUID, keep: timedelta) -> bool:
    """Whether another session still counts on this one's working state, or may by a retry within `keep`."""
    goes_on = col(TrainingSession.status).in_(GOES_ON)
    may_go_on = (col(TrainingSession.status) != Status.COMPLETED.value) & (
        col(TrainingSession.completed_at) > utcnow() - keep
    )
    query = sa.select(col(TrainingSession.id)).where(
        col(TrainingSession.parent_session_id) == session_id, col(TrainingSession.start_step) > 0, goes_on | may_go_on
    )
    return await session.scalar(query.limit(1)) is not None


async def _held(session: AsyncSession, session_id: UUID) -> tuple[TrainingSession, Dataset]:
    """The parent, and its dataset, which is held before any other row, as by everybody: nobody deletes it meanwhile.

    Raises NotFoundError, ConflictError `dataset_gone`.
    """
    parent = await trainings.get(session, session_id)
    try:
        if parent.dataset_id is not None:
            return parent, await dataset_edits.hold(session, parent.dataset_id)
    except NotFoundError:
        pass  # deleted since the parent was read
    raise ConflictError(
        "The dataset of this training was deleted.",
        code="dataset_gone",
        value=str(parent.id),
        hint="Upload it again and start a new training.",
    )


async def _child(
    session: AsyncSession,
    settings: Settings,
    installed: Collection[str],
    parent: TrainingSession,
    dataset: Dataset,
    config: dict[str, Any],
    request: ExtendRequest | CloneRequest,
    *,
    start_step: int = 0,
) -> TrainingSession:
    bases.choose(settings, installed, named=config["base_model"])
    return await trainings.add(
        session,
        TrainingSession(
            name=request.name or parent.name,
            dataset_id=dataset.id,
            dataset_version_id=parent.dataset_version_id,
            parent_session_id=parent.id,
            start_step=start_step,
            model_type=parent.model_type,
            config=config,
        ),
        webhooks.receiver(settings, request.webhook_url),
    )
