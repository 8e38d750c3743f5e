"""Backups that make themselves: where, and how soon after something was made."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.backup.place import is_wanted, open_place
from api.domain.job import Kind
from api.models import Job
from api.resources import Resources, open_resources
from api.settings import Settings
from api.tasks import back_up
from api.tasks.back_up import back_up_forever, milestones
from tests.job_rows import add
from tests.service import with_values
from tests.waiting import until_async


@pytest.fixture
def backed_up(settings: Settings, tmp_path: Path) -> Settings:
    return with_values(settings, masuka_backup_dir=tmp_path / "backups")


@pytest.fixture
async def resources(backed_up: Settings, valkey_url: str) -> AsyncIterator[Resources]:
    async with open_resources(backed_up, valkey_url) as opened:
        yield opened


async def snapshots(resources: Resources) -> list[dict[str, int]]:
    """The tables of each, newest first."""
    async with open_place(resources.settings, resources.storage, None) as place:
        index = await place.index()
        return [(await place.manifest(entry)).tables for entry in index.snapshots] if index is not None else []


async def test_a_new_job_is_backed_up_before_the_next_turn_is_due(
    resources: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(back_up, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(back_up, "SHARE", 1.0)
    duty = asyncio.create_task(back_up_forever(resources))
    try:
        await until_async(lambda: snapshots(resources))
        await add(resources.sessions, Kind.IMAGE)

        async def is_there() -> bool:
            return (await snapshots(resources))[0].get("generated_asset") == 1

        await until_async(is_there)
    finally:
        duty.cancel()


async def test_it_goes_on_after_a_failure(
    resources: Resources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(back_up, "AGAIN_SECONDS", 0.05)
    (tmp_path / "backups").write_text("in the way")
    duty = asyncio.create_task(back_up_forever(resources))
    try:
        await asyncio.wait({duty}, timeout=0.3)
        assert not duty.done()
        (tmp_path / "backups").unlink()
        await until_async(lambda: snapshots(resources))
    finally:
        duty.cancel()


@pytest.mark.parametrize(
    ("values", "begins"),
    [
        ({}, False),
        ({"masuka_backup_dir": "/nowhere"}, True),
        ({"s3_bucket_name": "b", "aws_access_key_id": "a", "aws_secret_access_key": "s"}, True),
        (
            {
                "s3_bucket_name": "b",
                "aws_access_key_id": "a",
                "aws_secret_access_key": "s",
                "database_url": "postgresql://h/d",
            },
            False,
        ),
    ],
    ids=["disk", "folder", "bucket", "bucket and a database server"],
)
def test_where_backups_make_themselves(settings: Settings, values: dict[str, str], begins: bool) -> None:
    assert is_wanted(with_values(settings, **values)) is begins


async def test_a_job_that_only_gets_on_is_no_milestone(resources: Resources) -> None:
    job_id = await add(resources.sessions, Kind.TRAINING)
    before = await milestones(resources)
    async with resources.sessions.begin() as session:
        job = await session.get_one(Job, job_id)
        job.progress = {"step": 5}
    assert await milestones(resources) == before
    await add(resources.sessions, Kind.TRAINING)
    assert await milestones(resources) != before
