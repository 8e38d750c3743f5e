"""`masuka backup` and `masuka restore`: everything into another place, and back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, TaskID

from api.backup.make import Made, Tell, make
from api.backup.place import Place, open_place
from api.backup.restore import Restored, choose
from api.backup.restore import restore as bring_back
from api.commands.console import JsonOption, bars, console, print_json, print_table, reporting
from api.db import open_database
from api.errors import ConflictError, NotFoundError
from api.settings import Settings, load_settings
from api.storage import Storage, open_storage
from api.supervisor import only_one

BYTES_PER_MB = 1024 * 1024
FolderArgument = Annotated[
    Path | None, typer.Argument(help="A folder, on another disk say; default: MASUKA_BACKUP_DIR, else the bucket.")
]
WORDS = {"rows": "Rows", "files": "Files", "check": "Looking for files"}


def backup(
    folder: FolderArgument = None,
    begin_anew: Annotated[
        bool, typer.Option("--begin-anew", help="Give up the backups there, which are of another installation.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Back up the database, and the files that are not in the bucket; also while the service runs."""
    with reporting(as_json):
        made = asyncio.run(_backup(load_settings(), folder, begin_anew, as_json))
    if as_json:
        print_json({"snapshot": made.snapshot, "new": made.new, "rows": made.rows, "files": made.files})
        return
    size = f"{made.bytes / BYTES_PER_MB:.1f} MB"
    console.print(
        f"Backed up as {made.snapshot}: {made.rows} rows, {made.files} files, {size}."
        if made.new
        else f"Nothing has changed since {made.snapshot}."
    )
    _tell_missing(made.missing)


def restore(
    folder: FolderArgument = None,
    snapshot: Annotated[str | None, typer.Option(help="Which one; default: the newest.")] = None,
    list_them: Annotated[bool, typer.Option("--list", help="Show what there is, and change nothing.")] = False,
    if_needed: Annotated[
        bool, typer.Option("--if-needed", help="Succeed when there is data here already, or no backup there.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring a backup back into an empty data folder and database. Jobs that were running go on as next attempts."""
    with reporting(as_json):
        settings = load_settings()
        if list_them:
            _show(asyncio.run(_listed(settings, folder)), as_json)
            return
        settings.make_data_dir()
        with only_one(settings):
            found = asyncio.run(_restore(settings, folder, snapshot, if_needed, as_json))
    if found is None:
        console.print("Nothing to restore.")
        return
    manifest = found.manifest
    if as_json:
        print_json({"snapshot": manifest.id, "rows": sum(manifest.tables.values()), "missing": list(found.missing)})
        return
    console.print(
        f"Restored {manifest.id}, made at {manifest.made_at:%Y-%m-%d %H:%M} UTC: "
        f"{sum(manifest.tables.values())} rows, {manifest.file_count} files."
    )
    _tell_missing(found.missing)


async def _backup(settings: Settings, folder: Path | None, begin_anew: bool, quiet: bool) -> Made:
    async with open_database(settings) as sessions, _open(settings, folder) as (place, storage):
        with bars() as progress:
            return await make(place, sessions, storage, settings, _bars_of(progress, quiet), begin_anew=begin_anew)


async def _restore(
    settings: Settings, folder: Path | None, snapshot: str | None, if_needed: bool, quiet: bool
) -> Restored | None:
    async with _open(settings, folder) as (place, storage):
        with bars() as progress:
            try:
                return await bring_back(place, storage, settings, snapshot, _bars_of(progress, quiet))
            except (ConflictError, NotFoundError) as exc:
                if if_needed and exc.code in ("database_not_empty", "no_backup"):
                    return None
                raise


async def _listed(settings: Settings, folder: Path | None) -> list[dict[str, object]]:
    async with _open(settings, folder) as (place, _):
        await choose(place, None)
        index = await place.index()
        manifests = [await place.manifest(entry) for entry in index.snapshots] if index is not None else []
    return [
        {
            "snapshot": each.id,
            "made_at": each.made_at.isoformat(timespec="seconds"),
            "rows": sum(each.tables.values()),
            "checkpoints": each.tables.get("training_checkpoint", 0),
            "files": each.file_count,
            "masuka": each.masuka,
        }
        for each in manifests
    ]


@asynccontextmanager
async def _open(settings: Settings, folder: Path | None) -> AsyncIterator[tuple[Place, Storage]]:
    async with open_storage(settings) as storage, open_place(settings, storage, folder) as place:
        yield place, storage


def _show(found: list[dict[str, object]], as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        print_table("", found[0].keys(), (each.values() for each in found))


def _bars_of(progress: Progress, quiet: bool) -> Tell:
    """One bar for each kind of work."""
    known: dict[str, TaskID] = {}

    def tell(what: str, done: int, of: int) -> None:
        if quiet or not of:
            return
        if what not in known:
            known[what] = progress.add_task(WORDS[what], total=of, note="")
        progress.update(known[what], completed=done, total=of)

    return tell


def _tell_missing(missing: tuple[str, ...]) -> None:
    if missing:
        console.print(f"[yellow]{len(missing)} files are missing in the storage[/], the first: {missing[0]}")
