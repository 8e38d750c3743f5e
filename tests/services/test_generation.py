"""Pictures: all rows of a request or none."""

from typing import Any

import pytest
import sqlalchemy as sa

from api.db import Sessions
from api.domain.generation import GenerateImageRequest
from api.domain.job import Status
from api.errors import ConflictError, InputError
from api.models import GeneratedAsset, Job
from api.services import generation
from api.settings import Settings
from api.storage import Storage, open_storage
from tests.service import NOBODY

INSTALLED = {"flux-dev"}


async def _submit(sessions: Sessions, storage: Storage, settings: Settings, **fields: Any) -> list[GeneratedAsset]:
    request = GenerateImageRequest.model_validate({"prompt": "x", **fields})
    async with sessions.begin() as session:
        return await generation.submit(session, storage, settings, INSTALLED, request)


async def test_every_picture_has_its_own_job_in_the_order_of_the_seeds(sessions: Sessions, settings: Settings) -> None:
    async with open_storage(settings) as storage:
        assets = await _submit(sessions, storage, settings, num_images=3, seed=7)
    async with sessions() as session:
        jobs = (await session.scalars(sa.select(Job).order_by(Job.created_at))).all()  # type: ignore[arg-type]
    assert [job.id for job in jobs] == [generation.task_of(asset) for asset in assets]
    assert [asset.generation_config["seed"] for asset in assets] == [7, 8, 9]
    assert {(job.status, job.affinity) for job in jobs} == {(Status.PENDING.value, "flux-dev")}


@pytest.mark.parametrize(
    "fields",
    [
        {"model_id": NOBODY},
        {"base_model": "sdxl"},
        {"workflow": "nothing"},
        {"width": 4096},
        {"seed": 2**53 - 1, "num_images": 2},
    ],
)
async def test_a_refused_request_writes_nothing_even_if_it_is_committed(
    sessions: Sessions, settings: Settings, fields: dict[str, Any]
) -> None:
    request = GenerateImageRequest.model_validate({"prompt": "x", **fields})
    async with open_storage(settings) as storage, sessions.begin() as session:
        with pytest.raises(InputError):
            await generation.submit(session, storage, settings, INSTALLED, request)
    async with sessions() as session:
        counts = [
            await session.scalar(sa.select(sa.func.count()).select_from(table)) for table in (Job, GeneratedAsset)
        ]
    assert counts == [0, 0]


@pytest.mark.parametrize("status", ["pending", "generating", "failed", "cancelled"])
def test_a_picture_without_a_file_says_how_far_it_is(status: str) -> None:
    with pytest.raises(ConflictError, match=f"it is {status}") as caught:
        generation.require_file(GeneratedAsset(prompt="x", status=status))
    assert caught.value.code == "asset_not_ready"
