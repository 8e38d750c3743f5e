"""What becomes of a picture that is drawn already while the storage makes trouble or the owner changes his mind."""

from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

import pytest
import sqlalchemy as sa

from api.domain.job import Kind, Queue
from api.models import GeneratedAsset, UnrecordedFile
from api.resources import Resources
from api.services import jobs
from api.services.unrecorded import discard_abandoned
from api.tasks import patience, room
from api.tasks.attempt import Attempt
from api.tasks.dispatch import Dispatcher
from api.tasks.generate import keep
from api.tasks.render import Picture
from tests.job_rows import add, expire, let_lease_run_out, read, subject_of
from tests.service import png
from tests.tasks.stage import on_duty, published
from tests.tasks.troubled import Troubled
from tests.waiting import until, until_async


@dataclass
class Scene:
    """A drawn picture, and a worker that has nothing left to do but to store it."""

    resources: Resources
    storage: Troubled
    worker: Dispatcher
    asset: GeneratedAsset
    job_id: UUID

    @property
    def files(self) -> list[Path]:
        """What is stored of pictures."""
        return list((self.resources.settings.masuka_data_dir / "storage" / "assets").glob("*"))

    async def announced(self) -> list[str]:
        """The files that no row names yet."""
        async with self.resources.sessions() as session:
            return [row.key for row in await session.scalars(sa.select(UnrecordedFile))]

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
        await keep(attempt, asset, picture, 1.0)

    return Scene(resources, storage, Dispatcher(resources, Queue.GPU, {Kind.IMAGE: run}), asset, job_id)


async def test_a_picture_is_stored_when_the_storage_answers_again_and_is_not_drawn_again(scene: Scene) -> None:
    scene.storage.failures = 2
    async with on_duty(scene.worker):
        assert await scene.end() == ("completed", None, 1)
    assert scene.storage.puts == 3
    assert len(scene.files) == 1
    assert await scene.announced() == []
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
        await until(lambda: scene.files)
        async with scene.resources.sessions.begin() as session:
            await jobs.request_cancel(session, scene.job_id)
        assert (await scene.end())[0] == "cancelled"
    assert scene.files == []
    await discard_abandoned(scene.resources.sessions, scene.resources.storage)  # looks once more
    assert await scene.announced() == []


async def test_a_picture_that_was_stored_for_an_attempt_that_lost_its_lease_leaves_no_file(scene: Scene) -> None:
    scene.storage.hangs = True
    async with on_duty(scene.worker):
        await until(lambda: scene.files)
        (lost,) = scene.files
        await let_lease_run_out(scene.resources.sessions, scene.job_id)
        await expire(scene.resources.sessions, scene.job_id)
        scene.storage.hangs = False
        assert await scene.end() == ("completed", None, 2)
        await until(lambda: not lost.exists())
    asset = await subject_of(scene.resources.sessions, scene.job_id)
    assert isinstance(asset, GeneratedAsset)
    assert asset.storage_path == f"assets/{scene.files[0].name}"
    assert await scene.storage.real.size(asset.storage_path) == asset.generation_config["output"]["size_bytes"]
