"""`/api/training/{id}/checkpoints`: the LoRA of each training checkpoint, to look at, download, promote and delete."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Path
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.domain.upload import BYTES_PER_MB
from api.models import Model, TrainingCandidate
from api.routes.deps import Cursor, IdPath, Limit, ResourcesDep, SessionDep
from api.routes.files import stored_file
from api.routes.models import EXAMPLE as MODEL_EXAMPLE
from api.routes.models import ModelOut
from api.routes.once import OnceDep
from api.routes.problems import responses
from api.services import candidates, checkpoints, loras, promotion, trainings
from api.services.pages import page
from api.services.promotion import PromoteRequest

router = APIRouter(prefix="/api/training", tags=["training"])

PATH = "/{session_id}/checkpoints"
StepPath = Annotated[int, Path(ge=1, le=2**31 - 1, examples=[500], description="After how many steps it was saved.")]
EXAMPLE: dict[str, Any] = {
    "id": "5b0e1c9f-3a0b-4c57-9d5e-0d6f3c8f2b11",
    "training_id": "1c9f8e6f-3a0b-4c57-9d5e-0d6f3c8f2b11",
    "step": 500,
    "name": "ohwx step 500",
    "base_model": "flux-dev",
    "trigger_word": "ohwx",
    "loss": 0.41,
    "rank": 32,
    "file_name": "ohwx-step-500-1a2b3c4d.safetensors",
    "size_mb": 171.9,
    "sha256": "1a2b3c4d5e6f70819a2b3c4d5e6f70819a2b3c4d5e6f70819a2b3c4d5e6f7081",
    "created_at": "2026-11-22T10:09:30Z",
    "resumable": True,
    "model_id": None,
    "url": "/api/training/1c9f8e6f-3a0b-4c57-9d5e-0d6f3c8f2b11/checkpoints/500/file",
}


class CandidateOut(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE}, protected_namespaces=())

    id: UUID = Field(description="What a picture names as `checkpoint_id`.")
    training_id: UUID
    step: int
    name: str
    base_model: str
    trigger_word: str | None
    loss: float | None = Field(description="Mean of the last 50 steps up to it; null where the trainer told none.")
    rank: int
    file_name: str
    size_mb: float
    sha256: str
    created_at: datetime
    resumable: bool = Field(description="The state that a trainer resumes from is stored, too.")
    model_id: UUID | None = Field(description="The model that it was promoted to.")
    url: str = Field(description="The LoRA, ready for ComfyUI.")


class CandidateList(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": {"items": [EXAMPLE], "next_cursor": None}})

    items: list[CandidateOut]
    next_cursor: str | None


class PromotedOut(ModelOut):
    model_config = ConfigDict(json_schema_extra={"example": {**MODEL_EXAMPLE, "duplicate": False}})

    duplicate: bool = Field(description="It had become this model before.")


@router.get(PATH, responses=responses(404, 422))
async def list_checkpoints(
    session: SessionDep, session_id: IdPath, limit: Limit = 50, cursor: Cursor = None
) -> CandidateList:
    """Newest first, whatever became of the training; a picture is drawn with one by its `id` as `checkpoint_id`."""
    await trainings.get(session, session_id)
    mine = [col(TrainingCandidate.session_id) == session_id, candidates.shown()]
    found = await page(session, TrainingCandidate, limit=limit, cursor=cursor, where=mine)
    items = await _shown(session, session_id, found.items)
    return CandidateList(items=items, next_cursor=found.next_cursor)


@router.get(PATH + "/{step}", responses=responses(404, 422))
async def get_checkpoint(session: SessionDep, session_id: IdPath, step: StepPath) -> CandidateOut:
    return (await _shown(session, session_id, [await _find(session, session_id, step)]))[0]


@router.get(
    PATH + "/{step}/file",
    responses={**responses(404, 422), 200: {"content": {"application/octet-stream": {}}}},
    response_class=Response,
)
async def get_checkpoint_file(
    session: SessionDep, resources: ResourcesDep, session_id: IdPath, step: StepPath
) -> Response:
    """The LoRA of this step as safetensors, with its alpha."""
    found = await _find(session, session_id, step)
    media_type = "application/octet-stream"
    return await stored_file(
        resources.storage, found.storage_path or "", filename=found.file_name, media_type=media_type
    )


@router.post(PATH + "/{step}/promote", status_code=201, responses=responses(404, 409, 422), response_model=PromotedOut)
async def promote_checkpoint(
    body: PromoteRequest,
    session: SessionDep,
    resources: ResourcesDep,
    once: OnceDep,
    session_id: IdPath,
    step: StepPath,
) -> Any:
    """Make it a model of the library at once; the same again gives the same model."""

    async def work() -> PromotedOut:
        row = await trainings.get(session, session_id)
        done = await promotion.promote(session, resources.storage, row, step, body)
        return PromotedOut(**ModelOut.model_validate(done.model).model_dump(), duplicate=done.duplicate)

    return await once(body.model_dump(mode="json"), 201, work)


@router.delete(PATH + "/{step}", status_code=204, responses=responses(404, 409, 422))
async def delete_checkpoint(session: SessionDep, session_id: IdPath, step: StepPath) -> None:
    """Its LoRA goes, but not a model that was made of it, nor what a trainer resumes from."""
    await candidates.delete(session, [await _find(session, session_id, step)])


@router.delete(PATH, status_code=204, responses=responses(404, 409, 422))
async def delete_checkpoints(session: SessionDep, session_id: IdPath) -> None:
    """All of this training."""
    await trainings.get(session, session_id)
    await candidates.delete(session, await candidates.of_session(session, session_id))


async def _find(session: AsyncSession, session_id: UUID, step: int) -> TrainingCandidate:
    await trainings.get(session, session_id)
    return await candidates.get(session, session_id, step)


async def _shown(session: AsyncSession, session_id: UUID, rows: Sequence[TrainingCandidate]) -> list[CandidateOut]:
    resumable = {row.step for row in await checkpoints.stored(session, session_id)}
    models = await _models(session, session_id)
    return [_out(row, models, resumable=row.step in resumable and not row.superseded) for row in rows]


async def _models(session: AsyncSession, session_id: UUID) -> dict[str, UUID]:
    """Of this training, by content."""
    mine = [col(Model.training_session_id) == session_id, loras.VISIBLE]
    found = await session.scalars(sa.select(Model).where(*mine).order_by(col(Model.created_at).desc()))
    return {model.model_metadata.get("sha256", ""): model.id for model in found}


def _out(row: TrainingCandidate, models: Mapping[str, UUID], *, resumable: bool) -> CandidateOut:
    about = row.model_dump(include=CandidateOut.model_fields.keys() & TrainingCandidate.model_fields.keys())
    return CandidateOut(
        **about,
        training_id=row.session_id,
        file_name=row.file_name,
        size_mb=round(row.size_bytes / BYTES_PER_MB, 3),
        resumable=resumable,
        model_id=models.get(row.sha256),
        url=f"/api/training/{row.session_id}/checkpoints/{row.step}/file",
    )
