"""`POST /api/training/{id}/checkpoint` and `/sample`: what a running training is asked for."""

from datetime import datetime
from typing import Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from api.routes.deps import IdPath, SessionDep
from api.routes.once import OnceDep
from api.routes.problems import responses
from api.services import wishes
from api.services.wishes import Wish

router = APIRouter(prefix="/api/training", tags=["training"])

MESSAGES = {
    Wish.CHECKPOINT: "After the step it is at, the trainer saves a training checkpoint, which is then stored.",
    Wish.SAMPLE: "After the step it is at, the trainer draws every sample prompt; see /samples.",
}


class WishOut(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "status": "accepted",
                "asked_at": "2026-11-22T10:00:00Z",
                "message": MESSAGES[Wish.CHECKPOINT],
            }
        }
    )

    status: Literal["accepted"] = "accepted"
    asked_at: datetime = Field(description="Since when; of the first of several who asked for the same.")
    message: str = Field(description="What will happen.")


@router.post("/{session_id}/checkpoint", status_code=202, responses=responses(404, 409, 422), response_model=WishOut)
async def ask_for_checkpoint(session: SessionDep, once: OnceDep, session_id: IdPath) -> Any:
    """Save now. 409 `not_supported_by_trainer` before SimpleTuner 4.8."""
    return await once({}, 202, lambda: _ask(session, session_id, Wish.CHECKPOINT))


@router.post("/{session_id}/sample", status_code=202, responses=responses(404, 409, 422), response_model=WishOut)
async def ask_for_sample(session: SessionDep, once: OnceDep, session_id: IdPath) -> Any:
    """Draw the sample prompts now. 409 `not_supported_by_trainer` before SimpleTuner 4.8."""
    return await once({}, 202, lambda: _ask(session, session_id, Wish.SAMPLE))


async def _ask(session: AsyncSession, session_id: IdPath, wish: Wish) -> WishOut:
    return WishOut(asked_at=await wishes.ask(session, session_id, wish), message=MESSAGES[wish])
