"""A database with as many pictures in it as somebody has after years."""

from datetime import timedelta

from api.db import Sessions, open_database
from api.domain.job import Kind, Status
from api.models import GeneratedAsset, Job
from api.models.base import utcnow
from api.settings import Settings

AT_ONCE = 2000
SUBJECTS = ("a red circle", "a blue star", "a portrait of ohwx", "a green bottle on a table", "a street at night")


async def fill(settings: Settings, count: int) -> None:
    """So many completed pictures, a second apart, each with its job."""
    async with open_database(settings) as sessions:
        for first in range(0, count, AT_ONCE):
            await _add(sessions, range(first, min(first + AT_ONCE, count)), count)


async def _add(sessions: Sessions, numbers: range, count: int) -> None:
    newest = utcnow()
    async with sessions.begin() as session:
        for number in numbers:
            at = newest - timedelta(seconds=count - number)
            job = Job.new(Kind.IMAGE)
            job.status, job.created_at, job.started_at, job.finished_at = Status.COMPLETED.value, at, at, at
            session.add(job)
            session.add(
                GeneratedAsset(
                    prompt=f"{SUBJECTS[number % len(SUBJECTS)]}, number {number}",
                    generation_config={
                        "base_model": "flux-tiny",
                        "seed": number,
                        "loras": [],
                        "width": 64,
                        "height": 64,
                    },
                    storage_path=f"assets/{number}.png",
                    file_size_mb=1.5,
                    status=Status.COMPLETED.value,
                    task_id=job.id,
                    created_at=at,
                    completed_at=at,
                )
            )
