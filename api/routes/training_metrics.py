"""`GET /api/training/{id}/metrics` and `/metrics.png`: the course of a training."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from api.domain.curve import Point, thinned
from api.domain.progress import Snapshot
from api.loss_chart import loss_chart
from api.models import TrainingSession
from api.routes.deps import IdPath, SessionDep
from api.routes.problems import responses
from api.routes.training import SessionStatus
from api.services import jobs, metrics, trainings

router = APIRouter(prefix="/api/training", tags=["training"])

DEFAULT_POINTS = 500
EXAMPLE: dict[str, Any] = {
    "status": "training",
    "step": 500,
    "total_steps": 2000,
    "loss": 0.41,
    "learning_rate": 0.0001,
    "step_seconds": 1.42,
    "eta_seconds": 2130.0,
    "steps_kept": 500,
    "downsampled": False,
    "checkpoints": [250, 500],
    "points": [
        {"step": 500, "at": "2026-11-22T10:10:00Z", "loss": 0.41, "learning_rate": 0.0001, "step_seconds": 1.39}
    ],
}


class PointOut(BaseModel):
    step: int
    at: datetime
    loss: float | None
    learning_rate: float | None
    step_seconds: float | None = Field(description="Without the time for training checkpoints and samples.")


class MetricsOut(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    status: SessionStatus
    step: int
    total_steps: int
    loss: float | None
    learning_rate: float | None
    step_seconds: float | None = Field(description="Of the newest steps, smoothed; of all when it has ended.")
    eta_seconds: float | None = Field(description="Until the end; null unless it is training.")
    steps_kept: int = Field(description="Steps of which the course is known.")
    downsampled: bool = Field(description="Fewer points than steps: of each part those of lowest and highest loss.")
    checkpoints: list[int] = Field(description="Steps at which a training checkpoint was saved.")
    points: list[PointOut] = Field(description="By step.")


@router.get("/{session_id}/metrics", responses=responses(404, 422))
async def get_metrics(
    session: SessionDep,
    session_id: IdPath,
    points: Annotated[int, Query(ge=2, le=10_000, description="Points at most.")] = DEFAULT_POINTS,
) -> MetricsOut:
    """Loss, learning rate and step time; about a second old while it trains, and kept for good."""
    row = await trainings.get(session, session_id)
    course = await metrics.load(session, session_id)
    last = await _last(session, row)
    shown = await asyncio.to_thread(thinned, course.points, points)
    newest = course.points[-1] if course.points else Point(0, 0.0)
    training = row.status == "training"
    return MetricsOut(
        status=row.status,
        step=row.current_step,
        total_steps=row.total_steps,
        loss=newest.loss,
        learning_rate=newest.learning_rate,
        step_seconds=(last.step_seconds if training else None) or _mean_seconds(course.points),
        eta_seconds=last.eta_seconds if training else None,
        steps_kept=len(course.points),
        downsampled=len(shown) < len(course.points),
        checkpoints=list(course.checkpoints),
        points=[_out(point) for point in shown],
    )


@router.get(
    "/{session_id}/metrics.png",
    responses={**responses(404, 422), 200: {"content": {"image/png": {}}}},
    response_class=Response,
)
async def get_metrics_picture(
    session: SessionDep,
    session_id: IdPath,
    width: Annotated[int, Query(ge=320, le=3000)] = 960,
    height: Annotated[int, Query(ge=200, le=2000)] = 480,
) -> Response:
    """The loss as it was told, and smoothed; training checkpoints are marked."""
    row = await trainings.get(session, session_id)
    course = await metrics.load(session, session_id)
    drawn = await asyncio.to_thread(loss_chart, course, row.total_steps, row.name, width, height)
    return Response(drawn, media_type="image/png", headers={"Cache-Control": "no-cache"})


async def _last(session: AsyncSession, row: TrainingSession) -> Snapshot:
    return jobs.snapshot_of(await jobs.get(session, trainings.task_of(row)))


def _mean_seconds(points: Any) -> float | None:
    told = [point.seconds for point in points if point.seconds is not None]
    return round(sum(told) / len(told), 3) if told else None


def _out(point: Point) -> PointOut:
    return PointOut(
        step=point.step,
        at=datetime.fromtimestamp(point.at, UTC),
        loss=point.loss,
        learning_rate=point.learning_rate,
        step_seconds=point.seconds,
    )
