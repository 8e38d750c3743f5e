"""What an answer says of a job that waits: its place in the queue and when its turn may come."""

from collections.abc import Sequence
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import AsyncSession

from api.domain.queueing import Place
from api.services.standing import standing
from api.settings import Settings

EXAMPLE: dict[str, Any] = {"queue_position": None, "eta_seconds": None, "message": None}


class Waits(BaseModel):
    """Fields of an answer about a job, or about what a job is for; all null unless that job waits."""

    queue_position: int | None = Field(None, description="While it waits; 1 is next.")
    eta_seconds: float | None = Field(None, description="While it waits: until its turn; null when nothing is known.")
    message: str | None = Field(None, description="While it waits: for what.")

    def waiting_job(self) -> UUID | None:
        """The job that waits; None when it does not."""
        raise NotImplementedError


W = TypeVar("W", bound=Waits)


async def with_places(session: AsyncSession, settings: Settings, answers: Sequence[W]) -> list[W]:
    """The same answers; those that wait say where they stand."""
    if not any(answer.waiting_job() for answer in answers):
        return list(answers)
    places = await standing(session, settings)
    return [_told(answer, places.get(job_id) if (job_id := answer.waiting_job()) else None) for answer in answers]


async def with_place(session: AsyncSession, settings: Settings, answer: W) -> W:
    (told,) = await with_places(session, settings, [answer])
    return told


def _told(answer: W, place: Place | None) -> W:
    if place is None:
        return answer
    told = {"queue_position": place.position, "eta_seconds": place.eta_seconds, "message": place.message}
    return answer.model_copy(update=told)
