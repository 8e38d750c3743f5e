"""Backups on both databases and both storages: what comes back is what was there, or an error that says why not."""

import asyncio
import gzip
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlmodel import col

from api import db
from api.backup import rows
from api.backup.place import BackupError, Place, open_place, part_of
from api.domain.backup import INDEX_KEYS, KEPT, Index, copy_key, manifest_key, rows_key
from api.domain.job import Kind
from api.errors import ConfigError, ConflictError, NotFoundError
from api.models import GeneratedAsset, Job
from api.settings import Settings
from tests.backup.homes import Home, bring_back, elsewhere, home, place_in
from tests.job_rows import add
from tests.service import with_values


@pytest.fixture(params=["sqlite to postgres", "postgres to sqlite", "sqlite to sqlite"])
def move(request: pytest.FixtureRequest, settings: Settings, tmp_path: Path) -> tuple[Settings, Settings]:
    """An installation, and another, empty one."""
    here, there = (
        request.getfixturevalue("postgres_url") if name == "postgres" else "" for name in request.param.split(" to ")
    )
    return with_values(settings, database_url=here), elsewhere(settings, tmp_path / "there", database_url=there)


async def test_all_rows_and_files_come_back(move: tuple[Settings, Settings], tmp_path: Path) -> None:
    here, there = move
    async with home(here) as first, place_in(tmp_path / "backups", here) as place:
        await first.fill()
        made = await first.back_up(place)
        before = await first.rows()

    async with place_in(tmp_path / "backups", there) as place:
        found = await bring_back(there, place)

    async with home(there) as second:
        assert await second.rows() == before
        assert await second.content("assets/one.png") == b"1" * 1000
        assert await second.content("datasets/me/1.png") == b"me"
    assert (made.files, found.manifest.id, found.missing) == (2, made.snapshot, ())


async def test_every_column_of_every_table_comes_back(move: tuple[Settings, Settings], tmp_path: Path) -> None:
    here, there = move
    async with home(here) as first, place_in(tmp_path / "backups", here) as place:
        await first.fill_every_column()
        await first.back_up(place)
        before = await first.rows()

    async with place_in(tmp_path / "backups", there) as place:
        await bring_back(there, place)

    async with home(there) as second:
        assert await second.rows() == before
    assert all(value is not None for found in before.values() for row in found for value in row.values())


async def test_with_a_bucket_the_rows_go_there_and_the_files_stay(empty_bucket: Settings, tmp_path: Path) -> None:
    async with home(empty_bucket) as first, place_in_bucket(first) as place:
        key = await first.picture(f"s3-{uuid4()}", b"in the bucket")
        made = await first.back_up(place, begin_anew=True)
        before = await first.rows()
        there = elsewhere(empty_bucket, tmp_path / "there", **bucket_of(empty_bucket))

        found = await bring_back(there, place)

    async with home(there) as second:
        assert await second.rows() == before
        assert await second.content(key) == b"in the bucket"
    assert (made.files, found.missing) == (0, ())


async def test_what_did_not_change_is_not_written_again(settings: Settings, tmp_path: Path) -> None:
    async with home(settings) as here, place_in(tmp_path / "backups", settings) as place:
        await here.fill()
        first = await here.back_up(place)
        before = files_below(tmp_path / "backups")

        second = await here.back_up(place)
        unchanged = files_below(tmp_path / "backups")
        await here.picture("two", b"2")
        third = await here.back_up(place)

    assert (first.new, second.new, second.snapshot, third.new) == (True, False, first.snapshot, True)
    assert unchanged == before
    after = files_below(tmp_path / "backups")
    copies = {name: about for name, about in before.items() if name.startswith("files/")}
    assert {name: after[name] for name in copies} == copies, "a copy was written again"
    assert copy_key("assets/two.png") in after


async def test_a_snapshot_is_of_one_moment(settings: Settings, database_url: str, tmp_path: Path) -> None:
    """A job and its picture are written together: no snapshot has one without the other."""
    settings = with_values(settings, database_url=database_url)
    async with home(settings) as here, place_in(tmp_path / "backups", settings) as place:
        done = asyncio.Event()

        async def write() -> None:
            while not done.is_set():
                await add(here.sessions, Kind.IMAGE)

        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            for _ in range(3):
                await here.back_up(place)
            done.set()
        index = await place.index()
        assert index is not None
        tables = [(await place.manifest(entry)).tables for entry in index.snapshots]

    assert all(found["job"] == found["generated_asset"] for found in tables)
    assert tables[0]["job"] > 0


async def test_the_oldest_goes_with_the_files_that_nothing_else_needs(settings: Settings, tmp_path: Path) -> None:
    async with home(settings) as here, place_in(tmp_path / "backups", settings) as place:
        gone = await here.picture("gone", b"gone")
        await here.picture("stays", b"stays")
        first = await here.back_up(place)
        async with here.sessions.begin() as session:
            await session.execute(sa.delete(GeneratedAsset).where(col(GeneratedAsset.storage_path) == gone))
        for number in range(KEPT):
            await add(here.sessions, Kind.IMAGE, priority=number)
            await here.back_up(place)

    left = files_below(tmp_path / "backups")
    assert not [name for name in left if first.snapshot in name]
    assert copy_key(gone) not in left
    assert copy_key("assets/stays.png") in left
    assert len({name.split("/")[1] for name in left if name.endswith("manifest.json")}) == KEPT


async def test_a_lost_file_is_told_and_stops_nothing(settings: Settings, tmp_path: Path) -> None:
    async with home(settings) as here, place_in(tmp_path / "backups", settings) as place:
        lost = await here.picture("lost", b"lost")
        await here.picture("kept", b"kept")
        await here.storage.delete(lost)
        made = await here.back_up(place)

        there = elsewhere(settings, tmp_path / "there")
        found = await bring_back(there, place)

    assert (made.missing, made.files, found.missing) == ((lost,), 1, (lost,))


# ---- what is refused ---------------------------------------------------------------------------------------------


async def test_a_database_with_something_in_it_is_not_replaced(settings: Settings, tmp_path: Path) -> None:
    async with home(settings) as here, place_in(tmp_path / "backups", settings) as place:
        await here.fill()
        await here.back_up(place)
        there = elsewhere(settings, tmp_path / "there")
        async with home(there) as second:
            await second.picture("mine", b"mine")
            before = await second.rows()

            with pytest.raises(ConflictError) as refused:
                await bring_back(there, place)

            assert await second.rows() == before
    assert refused.value.code == "database_not_empty"


async def test_a_database_that_only_has_its_schema_is_empty(settings: Settings, tmp_path: Path) -> None:
    async with home(settings) as here, place_in(tmp_path / "backups", settings) as place:
        await here.fill()
        await here.back_up(place)
        there = elsewhere(settings, tmp_path / "there")
        async with home(there):
            pass

        await bring_back(there, place)

        async with home(there) as second:
            assert await second.rows() == await here.rows()


async def test_the_backups_of_another_installation_are_left_alone(settings: Settings, tmp_path: Path) -> None:
    """A new machine that was not restored must not put its empty database in the place of the good one."""
    there = elsewhere(settings, tmp_path / "there")
    async with home(settings) as here, home(there) as stranger, place_in(tmp_path / "backups", settings) as place:
        await here.fill()
        await here.back_up(place)
        before = files_below(tmp_path / "backups")

        with pytest.raises(ConflictError) as refused:
            await stranger.back_up(place)
        unchanged = files_below(tmp_path / "backups")
        anew = await stranger.back_up(place, begin_anew=True)
        index = await place.index()

    assert refused.value.code == "backup_of_another"
    assert unchanged == before
    assert index is not None
    assert [entry.id for entry in index.snapshots] == [anew.snapshot]


async def test_a_restored_installation_goes_on_with_the_same_backups(settings: Settings, tmp_path: Path) -> None:
    there = elsewhere(settings, tmp_path / "there")
    async with home(settings) as here, place_in(tmp_path / "backups", settings) as place:
        await here.fill()
        await here.back_up(place)
        await bring_back(there, place)
        async with home(there) as second:
            await second.picture("new", b"new")

            assert (await second.back_up(place)).new


async def test_an_index_that_is_half_written_leaves_the_one_before_it(settings: Settings, tmp_path: Path) -> None:
    async with home(settings) as here, place_in(tmp_path / "backups", settings) as place:
        first = await _two_snapshots(here, place)
        newest = max(INDEX_KEYS, key=lambda key: _number(tmp_path / "backups" / key))
        (tmp_path / "backups" / newest).write_text('{"format": 1, "numb')

        index = await place.index()
        assert index is not None
        assert [entry.id for entry in index.snapshots] == [first]
        for key in INDEX_KEYS:
            (tmp_path / "backups" / key).write_text("")
        with pytest.raises(BackupError, match="index of the backups cannot be read"):
            await place.index()


@pytest.mark.parametrize("file", ["manifest.json", "rows.jsonl.gz", "files.jsonl.gz"])
@pytest.mark.parametrize("harm", ["gone", "changed"])
async def test_a_damaged_snapshot_is_refused_and_an_older_one_restored(
    settings: Settings, tmp_path: Path, file: str, harm: str
) -> None:
    there = elsewhere(settings, tmp_path / "there")
    async with home(settings) as here, place_in(tmp_path / "backups", settings) as place:
        first = await _two_snapshots(here, place)
        index = await place.index()
        assert index is not None
        path = tmp_path / "backups" / "backups" / index.snapshots[0].id / file
        path.write_bytes(path.read_bytes()[:-1] + b"x") if harm == "changed" else path.unlink()

        with pytest.raises(BackupError) as damaged:
            await bring_back(there, place)
        assert damaged.value.value == index.snapshots[0].id
        found = await bring_back(there, place, snapshot=first)

    assert found.manifest.id == first


async def test_a_restore_that_is_cut_off_leaves_an_empty_database_and_can_be_repeated(
    settings: Settings, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = elsewhere(settings, tmp_path / "there", database_url=database_url)
    async with home(settings) as here, place_in(tmp_path / "backups", settings) as place:
        await here.fill()
        await here.back_up(place)

        real = rows.load
        monkeypatch.setattr(rows, "load", _then_fail(real))
        with pytest.raises(OSError, match="cut off"):
            await bring_back(there, place)
        monkeypatch.setattr(rows, "load", real)
        await bring_back(there, place)

        async with home(there) as second:
            assert await second.rows() == await here.rows()


async def test_without_a_backup_there_is_nothing_to_restore(settings: Settings, tmp_path: Path) -> None:
    async with place_in(tmp_path / "backups", settings) as place:
        with pytest.raises(NotFoundError) as missing:
            await bring_back(settings, place)
    assert missing.value.code == "no_backup"

    async with home(settings) as here, place_in(tmp_path / "backups", settings) as place:
        made = await here.back_up(place)
        with pytest.raises(NotFoundError) as unknown:
            await bring_back(elsewhere(settings, tmp_path / "there"), place, snapshot="20260101t000000z-000099")
    assert (unknown.value.code, made.snapshot in (unknown.value.hint or "")) == ("snapshot_not_found", True)


async def test_without_a_place_a_backup_says_what_to_set(settings: Settings) -> None:
    with pytest.raises(ConfigError) as missing:
        async with home(settings) as here, place_in_bucket(here):
            pass
    assert missing.value.code == "backup_place_missing"


# ---- other versions ----------------------------------------------------------------------------------------------


async def test_rows_of_an_older_schema_are_brought_up_to_date(settings: Settings, tmp_path: Path) -> None:
    there = elsewhere(settings, tmp_path / "there")
    job = {"id": str(uuid4()), "kind": "image", "queue": "gpu", "status": "pending", "priority": 3, "affinity": None}
    job |= {"attempt": 1, "max_attempts": 3, "progress": {"step": 1}, "created_at": "2026-01-01T00:00:00+00:00"}
    async with home(settings) as here, place_in(tmp_path / "backups", settings) as place:
        await here.back_up(place)
        await _rewrite(place, revision="0001", rows=[["job", job]])

        await bring_back(there, place)

    async with home(there) as second, second.sessions() as session:
        found = (await session.scalars(sa.select(Job))).one()
        assert (str(found.id), found.priority, found.progress, found.webhook_url) == (job["id"], 3, {"step": 1}, None)
        assert await session.scalar(sa.text("SELECT version_num FROM alembic_version")) == db.revisions()[-1]


async def test_a_backup_of_a_newer_version_is_refused(settings: Settings, tmp_path: Path) -> None:
    async with home(settings) as here, place_in(tmp_path / "backups", settings) as place:
        await here.back_up(place)
        await _rewrite(place, revision="9999", rows=[])

        with pytest.raises(ConfigError) as refused:
            await bring_back(elsewhere(settings, tmp_path / "there"), place)

    assert (refused.value.code, "9999" in refused.value.detail) == ("backup_newer", True)


async def test_no_secret_is_in_what_a_backup_says_of_itself(settings: Settings, tmp_path: Path) -> None:
    secret = f"https://user:{uuid4().hex}@hooks.example/path"
    async with home(settings) as here, place_in(tmp_path / "backups", settings) as place:
        job_id = await add(here.sessions)
        async with here.sessions.begin() as session:
            await session.execute(sa.update(Job).where(col(Job.id) == job_id).values(webhook_url=secret))
        await here.back_up(place)

    told = [path for path in (tmp_path / "backups").rglob("*.json") if path.is_file()]
    assert len(told) == 2
    assert not [path for path in told if secret in path.read_text() or "hooks.example" in path.read_text()]
    (rows,) = (tmp_path / "backups").rglob("rows.jsonl.gz")
    assert secret in gzip.decompress(rows.read_bytes()).decode(), "what is delivered later must be in the rows"


# ---- helpers -----------------------------------------------------------------------------------------------------


def place_in_bucket(here: Home) -> AbstractAsyncContextManager[Place]:
    return open_place(here.settings, here.storage, None)


def bucket_of(settings: Settings) -> dict[str, Any]:
    names = ("aws_access_key_id", "aws_secret_access_key", "s3_bucket_name", "s3_endpoint_url")
    return {name: getattr(settings, name) for name in names}


def files_below(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of each file."""
    found = {str(path.relative_to(folder)): path.stat() for path in folder.rglob("*") if path.is_file()}
    return {name: (about.st_size, about.st_mtime_ns) for name, about in found.items()}


async def _two_snapshots(here: Home, place: Place) -> str:
    """The older one's id."""
    await here.picture("one", b"1")
    first = await here.back_up(place)
    await here.picture("two", b"2")
    await here.back_up(place)
    return str(first.snapshot)


def _number(path: Path) -> int:
    return Index.model_validate_json(path.read_bytes()).number


def _then_fail(real: Callable[..., Any]) -> Callable[..., Any]:
    def load(*args: Any) -> Any:
        real(*args)
        raise OSError("cut off")

    return load


async def _rewrite(place: Place, *, revision: str, rows: list[Any]) -> None:
    """Make the newest snapshot one of another version."""
    index = await place.index()
    assert index is not None
    entry = index.snapshots[0]
    manifest = await place.manifest(entry)
    somewhere = place.storage.local_path("x")
    assert somewhere is not None
    folder = somewhere.parent
    data = gzip.compress(b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    (folder / rows_key(entry.id)).write_bytes(data)
    tables = {row[0]: 1 for row in rows}
    changed = manifest.model_copy(update={"revision": revision, "rows": part_of(data), "tables": tables})
    text = changed.model_dump_json().encode()
    (folder / manifest_key(entry.id)).write_bytes(text)
    entries = [entry.model_copy(update={"manifest": part_of(text)}), *index.snapshots[1:]]
    newer = index.model_copy(update={"number": index.number + 1, "snapshots": entries})
    (folder / newer.key).write_text(newer.model_dump_json())
