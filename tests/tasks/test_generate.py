"""What becomes of a picture that is drawn already while the storage makes trouble or the owner changes his mind."""

from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import pytest

from api.domain.job import Kind, Queue
from api.models import GeneratedAsset
from api.resources import Resources
from api.services import generation, jobs
from api.tasks import patience, room
from api.tasks.attempt import Attempt
from api.tasks.dispatch import Dispatcher
from api.tasks.generate import store
from api.tasks.render import Picture
from tests.job_rows import add, read, subject_of
from tests.service import png
from tests.tasks.stage import nothing_to_record, on_duty, published
from tests.tasks.troubled import Troubled
from tests.waiting import until_async


@dataclass
class Scene:
    """A drawn picture, and a worker that has nothing left to do but to store it."""

    resources: Resources
    storage: Troubled
    worker: Dispatcher
    asset: GeneratedAsset
    job_id: UUID

    async def kept(self) -> bool:
        return await self.storage.real.size(generation.file_key(self.asset.id)) is not None

    async def end(self) -> tuple[str, str | None, int]:
        async def over() -> bool:
            return (await read(self.resources.sessions, self.job_id)).finished_at is not None

        await until_async(over)
        job = await read(self.resources.sessions, self.job_id)
        return job.status, job.error_code, job.attempt


@pytest.fixture
async def scene(resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setattr(patience, "PAUSES_SECONDS", (0.01, 0.02))
    monkeypatch.setattr(room, "LOOK_SECONDS", 0.01)
    picture = Picture(tmp_path / "drawn.png", 64, 64)
    picture.path.write_bytes(png())
    job_id = await add(resources.sessions)
    asset = await subject_of(resources.sessions, job_id)
    assert isinstance(asset, GeneratedAsset)
    storage = Troubled(resources.storage)
    resources = replace(resources, storage=storage)  # type: ignore[arg-type]

    async def run(attempt: Attempt) -> None:
        await store(attempt, asset, picture)
        await attempt.complete(nothing_to_record)

    return Scene(resources, storage, Dispatcher(resources, Queue.GPU, {Kind.IMAGE: run}), asset, job_id)


async def test_a_picture_is_stored_when_the_storage_answers_again_and_is_not_drawn_again(scene: Scene) -> None:
    scene.storage.failures = 2
    async with on_duty(scene.worker):
        assert await scene.end() == ("completed", None, 1)
    assert scene.storage.puts == 3
    assert await scene.kept()
    told = [event["message"] for event in await published(scene.resources, scene.job_id)]
    assert "The storage does not answer. Trying again in 0.01 s" in told


async def test_a_storage_that_stays_away_fails_the_picture_by_name_after_every_attempt(scene: Scene) -> None:
    scene.storage.failures = 100
    async with on_duty(scene.worker):
        assert await scene.end() == ("failed", "storage_unreachable", 3)
    assert scene.storage.puts == 9


async def test_a_full_disk_is_waited_for_and_the_picture_is_not_drawn_again(scene: Scene) -> None:
    scene.storage.failures, scene.storage.code = 5, "disk_full"
    async with on_duty(scene.worker):
        assert await scene.end() == ("completed", None, 1)
    assert scene.storage.puts == 6
    waits = [event for event in await published(scene.resources, scene.job_id) if event["stage"] == "waiting_for_disk"]
    assert [event["message"] for event in waits] == ["The storage does not answer. Waiting for space"] * 5


async def test_a_cancel_while_the_picture_is_stored_leaves_no_file(scene: Scene) -> None:
    scene.storage.hangs = True
    async with on_duty(scene.worker):
        await until_async(scene.kept)
        async with scene.resources.sessions.begin() as session:
            await jobs.request_cancel(session, scene.job_id)
        assert (await scene.end())[0] == "cancelled"
    assert not await scene.kept()


async def test_deleting_an_asset_removes_also_a_file_that_a_dead_worker_has_left(scene: Scene, tmp_path: Path) -> None:
    await scene.storage.put_file(generation.file_key(scene.asset.id), tmp_path / "drawn.png")
    async with scene.resources.sessions.begin() as session:
        await jobs.request_cancel(session, scene.job_id)
    async with scene.resources.sessions.begin() as session:
        await generation.delete(session, scene.storage.real, scene.asset.id)
    assert not await scene.kept()
