"""What is kept of a training's way: each sample once, every step once, its log, whatever dies meanwhile."""

import io
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from PIL import Image

from api.domain.curve import Course, Point
from api.domain.samples import SampleName
from api.errors import ConflictError
from api.models import GeneratedAsset, TrainingMetrics, TrainingSample, UnrecordedFile
from api.models.base import utcnow
from api.resources import Resources
from api.services import checkpoints, gallery, jobs, metrics, samples, training_logs, trainings, wishes
from api.services.training_logs import LogStream
from api.services.wishes import Wish
from api.settings import Settings
from api.storage import StoredFile
from api.tasks import training_records
from api.tasks.dispatch import Dispatcher
from api.trainer import process, triggers
from tests.service import with_values
from tests.tasks.stage import on_duty
from tests.tasks.trainings import Training, begin, ended, gpu_worker, success, tell_trainer, waits, with_fake_trainer
from tests.tasks.troubled import Troubled
from tests.trainer.checkpoint_files import checkpoint
from tests.waiting import until, until_async

WAIT = ("wait", None)
SECRET = "hf_not-for-anybody"
Action = tuple[str, Any]


@pytest.fixture
def settings(settings: Settings, engines_dir: Path, tmp_path: Path) -> Settings:
    return with_values(with_fake_trainer(settings, engines_dir, tmp_path), hf_token=SECRET)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_records, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(training_records, "SAVE_SECONDS", 0.05)


@pytest.fixture
async def training(resources: Resources, tmp_path: Path) -> AsyncIterator[Training]:
    begun = await begin(resources, tmp_path, steps=12, sample_prompts=["a ball", "a cube"])
    yield begun
    handle = process.find(begun.workdir)
    if handle is not None:
        await handle.stop(0)


@pytest.fixture
def worker(resources: Resources) -> Dispatcher:
    return gpu_worker(resources)


def at_step(step: int, loss: float = 1.0, **data: int) -> Action:
    progress = {"current": step, "total": 12, "metrics": {"loss": loss, "learning_rate": 0.1}}
    return "post", {"type": "training.status", "data": {"status": "running", **data}, "progress": progress}


def draws(folder: Path, step: int, position: int, *, bytes_of_it: int | None = None) -> Action:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 100), (step, position, 0)).save(buffer, "PNG")
    name = f"step_{step}_p{position}_0_64x64.png"
    (folder / name).write_bytes(buffer.getvalue()[:bytes_of_it])
    return "draw", [name, str(folder / name)]


async def shown(training: Training) -> list[tuple[int, int, str]]:
    async with training.resources.sessions() as session:
        found = await samples.of_session(session, training.id)
    return [(each.sample.step, each.sample.position, each.asset.prompt) for each in found]


async def course(training: Training) -> Course:
    async with training.resources.sessions() as session:
        return await metrics.load(session, training.id)


async def steps(training: Training) -> list[int]:
    return [point.step for point in (await course(training)).points]


async def log_of(training: Training, stream: LogStream = LogStream.STDOUT, **about: Any) -> training_logs.LogPart:
    resources, wanted = training.resources, {"offset": 0, "limit": 10_000, **about}
    async with resources.sessions() as session:
        return await training_logs.read(session, resources.storage, resources.settings, training.id, stream, **wanted)


async def nothing_unrecorded(resources: Resources) -> bool:
    async with resources.sessions() as session:
        return await session.scalar(sa.select(sa.func.count()).select_from(UnrecordedFile)) == 0


async def rows(resources: Resources, table: type[Any]) -> int:
    async with resources.sessions() as session:
        return await session.scalar(sa.select(sa.func.count()).select_from(table)) or 0


# ---- samples -------------------------------------------------------------------------------------------------------


async def test_what_a_trainer_draws_is_in_the_gallery_by_step_and_prompt(
    training: Training, worker: Dispatcher, resources: Resources, tmp_path: Path
) -> None:
    drawn = [draws(tmp_path, step, position) for step in (4, 8) for position in (0, 1)]
    tell_trainer(resources, *drawn, *success(tmp_path))
    async with on_duty(worker):
        assert await ended(training) == "completed"
    assert await shown(training) == [(4, 0, "a ball"), (4, 1, "a cube"), (8, 0, "a ball"), (8, 1, "a cube")]
    async with resources.sessions() as session:
        asset = (await samples.of_session(session, training.id))[3].asset
    assert (asset.status, asset.tags, asset.seed) == ("completed", ["sample"], 42)
    path = resources.storage.local_path(asset.storage_path or "")
    assert path is not None
    with Image.open(path) as picture:
        assert (picture.size, picture.getpixel((0, 0))) == ((64, 64), (8, 1, 0))
    await until_async(lambda: nothing_unrecorded(resources))


async def test_a_worker_that_comes_later_stores_what_was_drawn_meanwhile_and_nothing_twice(
    training: Training, worker: Dispatcher, resources: Resources, tmp_path: Path
) -> None:
    tell_trainer(resources, draws(tmp_path, 4, 0), ("wait_for", "go on"), draws(tmp_path, 8, 0), *success(tmp_path))

    async def one_is_there() -> bool:
        return len(await shown(training)) == 1

    async with on_duty(worker):
        await until_async(one_is_there, 30)
    (training.workdir.root / "go on").touch()
    await until(training.workdir.exit.exists, 30)
    assert len(await shown(training)) == 1

    async with on_duty(gpu_worker(resources)):
        assert await ended(training) == "completed"
    assert [(step, position) for step, position, _ in await shown(training)] == [(4, 0), (8, 0)]
    assert (await rows(resources, GeneratedAsset), await rows(resources, TrainingSample)) == (2, 2)


async def test_a_picture_that_is_half_written_comes_when_it_is_whole(
    training: Training, worker: Dispatcher, resources: Resources, tmp_path: Path
) -> None:
    half = draws(tmp_path, 4, 0, bytes_of_it=60)
    whole_folder = tmp_path / "whole"
    whole_folder.mkdir()
    actions = (half, ("wait_for", "go on"), draws(whole_folder, 4, 0), *success(tmp_path))
    tell_trainer(resources, *actions)
    async with on_duty(worker):
        await until(lambda: waits(training), 30)
        assert await shown(training) == []
        (training.workdir.root / "go on").touch()
        assert await ended(training) == "completed"
    assert len(await shown(training)) == 1


async def test_a_storage_that_is_away_delays_samples_and_not_the_training(
    training: Training, resources: Resources, tmp_path: Path
) -> None:
    troubled = Troubled(resources.storage, failures=3)
    tell_trainer(resources, draws(tmp_path, 4, 0), at_step(5), ("wait_for", "go on"), *success(tmp_path))

    async def is_at_5_with_its_sample() -> bool:
        return await steps(training) == [5] and len(await shown(training)) == 1

    async with on_duty(gpu_worker(replace(resources, storage=troubled))):  # type: ignore[arg-type]
        await until_async(is_at_5_with_its_sample, 30)
        (training.workdir.root / "go on").touch()
        assert await ended(training) == "completed"
    assert troubled.puts > 3
    await until_async(lambda: nothing_unrecorded(resources))


async def test_an_attempt_that_lost_its_lease_records_nothing(
    training: Training, worker: Dispatcher, resources: Resources
) -> None:
    name = SampleName(4, 0, 64, 64)
    async with resources.sessions() as session:
        row = await trainings.get(session, training.id)
    asset = samples.new_asset(row, name, row.config["sample_prompts"])
    lost = jobs.Lease(training.job_id, "nobody any more")
    with pytest.raises(jobs.LeaseLostError):
        async with resources.sessions.begin() as session:
            await samples.record(session, lost, training.id, name, asset, StoredFile("assets/a.png", 1, "0"))
    assert (await rows(resources, GeneratedAsset), await rows(resources, TrainingSample)) == (0, 0)


async def test_a_sample_that_was_purged_does_not_come_again(
    training: Training, worker: Dispatcher, resources: Resources, tmp_path: Path
) -> None:
    tell_trainer(resources, draws(tmp_path, 4, 0), ("wait_for", "go on"), draws(tmp_path, 8, 0), *success(tmp_path))

    async def one_is_there() -> bool:
        return len(await shown(training)) == 1

    async with on_duty(worker):
        await until_async(one_is_there, 30)
        async with resources.sessions.begin() as session:
            await session.execute(sa.update(GeneratedAsset).values(deleted_at=utcnow()))
        async with resources.sessions.begin() as session:
            assert await gallery.purge(session, 0) == 1
        (training.workdir.root / "go on").touch()
        assert await ended(training) == "completed"
    assert [step for step, _, _ in await shown(training)] == [8]
    assert await rows(resources, TrainingSample) == 2


# ---- course --------------------------------------------------------------------------------------------------------


async def test_every_step_is_kept_whoever_followed(
    training: Training, worker: Dispatcher, resources: Resources, tmp_path: Path
) -> None:
    saved = ("checkpoint", str(checkpoint(tmp_path / "ready", 2)))
    said = (at_step(1, 0.9), at_step(2, 0.8), saved, ("wait_for", "go on"), at_step(3, 0.7), at_step(4, 0.6))
    tell_trainer(resources, *said, *success(tmp_path)[1:])

    async def two_steps() -> bool:
        return await steps(training) == [1, 2]

    async with on_duty(worker):
        await until_async(two_steps, 30)
    (training.workdir.root / "go on").touch()
    await until(training.workdir.exit.exists, 30)
    async with on_duty(gpu_worker(resources)):
        assert await ended(training) == "completed"
    found = await course(training)
    assert [(point.step, point.loss) for point in found.points] == [(1, 0.9), (2, 0.8), (3, 0.7), (4, 0.6)]
    assert list(found.checkpoints) == [2]


async def test_what_is_trained_again_after_a_crash_takes_the_place_of_what_was_lost(
    training: Training, worker: Dispatcher, resources: Resources, tmp_path: Path
) -> None:
    saved = ("checkpoint", str(checkpoint(tmp_path / "ready", 2)))
    tell_trainer(resources, at_step(1, 1.0), at_step(2, 2.0), saved, at_step(3, 3.0), at_step(4, 4.0), WAIT)

    async def four_steps() -> bool:
        return await steps(training) == [1, 2, 3, 4]

    async with on_duty(worker):
        await until_async(four_steps, 30)
        tell_trainer(resources, at_step(3, 33.0, global_resume_step=2), WAIT)
        (training.workdir.root / "waiting").unlink()
        handle = process.find(training.workdir)
        assert handle is not None
        handle.kill_trainer()

        async def three_steps() -> bool:
            return [point.loss for point in (await course(training)).points] == [1.0, 2.0, 33.0]

        await until_async(three_steps, 30)
    assert list((await course(training)).checkpoints) == [2]


async def test_steps_are_kept_in_chunks_and_told_twice_are_the_same(
    training: Training, worker: Dispatcher, resources: Resources
) -> None:
    points = [Point(step, float(step), 1 / step, 0.1, 0.5) for step in range(1, 1201)]
    for part in (points[:700], points[300:], points):
        async with resources.sessions.begin() as session:
            await metrics.add(session, training.id, Course(part, [500, 1000]))
    found = await course(training)
    assert (list(found.points), list(found.checkpoints)) == (points, [500, 1000])
    assert await rows(resources, TrainingMetrics) == 3


# ---- log -----------------------------------------------------------------------------------------------------------


async def test_the_log_can_be_read_while_it_grows_without_a_secret_in_it(
    training: Training, worker: Dispatcher, resources: Resources, tmp_path: Path
) -> None:
    tell_trainer(resources, ("say", f"token {SECRET}"), ("steps", 1), WAIT)
    async with on_duty(worker):
        await until(lambda: waits(training), 30)
        part = await log_of(training, limit=1000)
        cut = await log_of(training, offset=10, limit=16)
    assert part.live
    assert part.data.startswith(b"token " + b"*" * len(SECRET))
    assert set(cut.data.split(b"\n")[0]) == set(b"*")


async def test_the_log_of_a_training_that_failed_is_in_the_storage_too(
    training: Training, worker: Dispatcher, resources: Resources
) -> None:
    tell_trainer(resources, ("say_error", f"no {SECRET}"), ("exit", 1))
    async with on_duty(worker):
        assert await ended(training) == "failed"
    training.workdir.root.rename(training.workdir.root.with_name("elsewhere"))
    part = await log_of(training, LogStream.STDERR)
    assert (part.live, part.data) == (False, b"no " + b"*" * len(SECRET) + b"\n")
    await until_async(lambda: nothing_unrecorded(resources))


async def test_a_training_on_another_machine_is_said_to_have_its_log_there(
    training: Training, worker: Dispatcher, resources: Resources
) -> None:
    with pytest.raises(ConflictError) as not_yet:
        await log_of(training)
    async with resources.sessions.begin() as session:
        await jobs.claim(session, training.job_id, "gpu-box@4026531836|1|2|abcd")
    with pytest.raises(ConflictError) as elsewhere:
        await log_of(training)
    assert not_yet.value.code == "log_not_yet"
    assert (elsewhere.value.code, elsewhere.value.value) == ("log_elsewhere", "gpu-box")


# ---- wishes --------------------------------------------------------------------------------------------------------


async def test_a_trainer_that_can_saves_when_it_is_asked(
    training: Training, worker: Dispatcher, resources: Resources, tmp_path: Path
) -> None:
    """On a stand-in for SimpleTuner 4.8 that looks at the same file."""
    ready = str(checkpoint(tmp_path / "ready", 4))
    tell_trainer(resources, at_step(4), ("save_when_asked", ready), version="4.8.0")
    async with on_duty(worker):
        await until(lambda: waits(training), 30)
        async with resources.sessions.begin() as session:
            since = await wishes.ask(session, training.id, Wish.CHECKPOINT)
        async with resources.sessions.begin() as session:
            assert await wishes.ask(session, training.id, Wish.CHECKPOINT) == since

        async def is_saved() -> bool:
            async with resources.sessions() as session:
                standing = await wishes.standing(session, training.id)
                return not standing and len(await checkpoints.stored(session, training.id)) == 1

        await until_async(is_saved, 30)
    assert json.loads(training.workdir.triggers.read_text())["manual_checkpoint"] == 1


async def test_a_wish_that_a_crash_left_standing_is_told_to_the_next_trainer(
    training: Training, worker: Dispatcher, resources: Resources, tmp_path: Path
) -> None:
    tell_trainer(resources, at_step(4), WAIT, version="4.8.0")
    async with on_duty(worker):
        await until(lambda: waits(training), 30)
        async with resources.sessions.begin() as session:
            await wishes.ask(session, training.id, Wish.CHECKPOINT)
        await until(lambda: triggers.told(training.workdir, "checkpoint") is not None)
        (training.workdir.root / "waiting").unlink()
        ready = str(checkpoint(tmp_path / "ready", 4))
        tell_trainer(resources, at_step(4), ("save_when_asked", ready), version="4.8.0")
        handle = process.find(training.workdir)
        assert handle is not None
        handle.kill_trainer()

        async def is_fulfilled() -> bool:
            async with resources.sessions() as session:
                return not await wishes.standing(session, training.id)

        await until_async(is_fulfilled, 30)
    assert training.runs == 2
