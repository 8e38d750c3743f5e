"""What trainings that have ended leave behind goes when it is of no use any more, and not before."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlmodel import col

from api.models import TrainingCheckpoint, TrainingSession
from api.models.base import utcnow
from api.resources import Resources
from api.services import checkpoints
from api.tasks import forget as forgetting
from api.tasks.forget import forget
from api.trainer.workdir import Workdir
from tests.service import with_values
from tests.tasks.trainings import Training, begin

KEEP_DAYS = 7


@pytest.fixture
async def training(resources: Resources, tmp_path: Path) -> Training:
    """With working state on this machine and in storage, as a trainer leaves it."""
    begun = await begin(resources, tmp_path)
    leave_state(begun.workdir)
    await leave_stored(begun, 3, is_stored=True)
    return begun


def leave_state(workdir: Workdir) -> None:
    for folder in (workdir.dataset, workdir.cache / "vae", workdir.checkpoint(3), workdir.fetched, workdir.run):
        folder.mkdir(parents=True)
        (folder / "a file").touch()
    workdir.finished.touch()


async def leave_stored(training: Training, step: int, *, is_stored: bool) -> None:
    key = f"trainings/{training.id}/{step}"
    await training.resources.storage.put_file(key, training.workdir.run / "a file")
    row = TrainingCheckpoint(session_id=training.id, step=step, files=[{"name": "a file", "key": key}])
    row.stored_at = utcnow() if is_stored else None
    async with training.resources.sessions.begin() as session:
        session.add(row)


async def stored_steps(training: Training) -> list[int]:
    """By the rows; the files must agree."""
    root = training.resources.settings.masuka_data_dir / "storage" / "trainings"
    async with training.resources.sessions() as session:
        rows = await checkpoints.of_session(session, training.id)
    assert {path.name for path in root.rglob("*") if path.is_file()} == {str(row.step) for row in rows}
    return [row.step for row in rows]


async def end(training: Training, status: str) -> None:
    async with training.resources.sessions.begin() as session:
        mine = sa.update(TrainingSession).where(col(TrainingSession.id) == training.id)
        await session.execute(mine.values(status=status, completed_at=utcnow()))


def after_days(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    later = utcnow() + timedelta(days=days)
    monkeypatch.setattr(forgetting, "utcnow", lambda: later)


def left(workdir: Workdir) -> list[str]:
    return sorted(path.name for path in workdir.root.iterdir())


@pytest.mark.parametrize("status", ["failed", "cancelled"])
async def test_what_nobody_retried_goes_after_its_time(
    training: Training, resources: Resources, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await end(training, status)

    after_days(monkeypatch, KEEP_DAYS - 0.1)
    await forget(resources)
    assert (left(training.workdir), await stored_steps(training)) == (
        ["cache", "dataset", "fetched", "finished.safetensors", "output", "run"],
        [3],
    )

    after_days(monkeypatch, KEEP_DAYS)
    await forget(resources)
    assert (left(training.workdir), await stored_steps(training)) == (["run"], [])


async def test_the_time_is_a_setting(training: Training, resources: Resources) -> None:
    await training.cancel()
    eager = with_values(resources.settings, masuka_keep_failed_days=0)

    await forget(replace(resources, settings=eager))

    assert left(training.workdir) == ["run"]


async def test_a_session_that_waits_or_is_retried_loses_nothing(
    training: Training, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    after_days(monkeypatch, 2 * KEEP_DAYS)
    await forget(resources)
    await training.cancel()
    await training.retry()
    await forget(resources)

    assert training.workdir.checkpoint(3).exists()
    assert await stored_steps(training) == [3]


async def test_of_an_upload_that_was_cut_off_nothing_stays_once_the_session_has_ended(
    training: Training, resources: Resources
) -> None:
    await leave_stored(training, 6, is_stored=False)
    await forget(resources)
    assert await stored_steps(training) == [6, 3]

    await training.cancel()
    await forget(resources)

    assert await stored_steps(training) == [3]


async def test_a_completed_session_leaves_its_logs_here_and_can_be_extended_for_its_time(
    training: Training, resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    await end(training, "completed")

    await forget(resources)
    assert (left(training.workdir), await stored_steps(training)) == (["run"], [3])

    after_days(monkeypatch, KEEP_DAYS)
    await forget(resources)
    assert (left(training.workdir), await stored_steps(training)) == (["run"], [])


async def test_a_session_of_another_machine_loses_what_it_has_in_storage(
    training: Training, resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await end(training, "completed")
    training.workdir.root.rename(tmp_path / "another machine")

    after_days(monkeypatch, KEEP_DAYS)
    await forget(resources)

    assert await stored_steps(training) == []


async def test_what_a_crash_kept_from_being_removed_goes_the_next_time(
    training: Training, resources: Resources
) -> None:
    training.workdir.given_up.mkdir()
    (training.workdir.given_up / "output").mkdir()

    await forget(resources)

    assert "given-up" not in left(training.workdir)


async def test_folders_that_are_not_ours_stay(training: Training, resources: Resources) -> None:
    strange = Workdir(training.workdir.root.parent / "my notes")
    unknown = Workdir(training.workdir.root.parent / "11111111-2222-4333-8444-555555555555")
    for workdir in (strange, unknown):
        leave_state(workdir)

    await forget(resources)

    assert len(left(strange)) == len(left(unknown)) == 6
