"""Installations with something in them, and what they hold."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlmodel import SQLModel

from api.backup.make import Made, make
from api.backup.place import Place, open_place
from api.backup.restore import Restored, restore
from api.db import Sessions, open_database
from api.domain.job import Kind
from api.models import Dataset, DatasetImage, GeneratedAsset, Installation
from api.models.base import utcnow
from api.settings import Settings
from api.storage import Storage, open_storage
from tests.job_rows import add
from tests.service import with_values


@dataclass
class Home:
    """One installation, open."""

    settings: Settings
    sessions: Sessions
    storage: Storage
    folder: Path
    """For what is to be stored."""

    async def picture(self, name: str, content: bytes) -> str:
        """A completed picture, its file stored; the file's key."""
        path = self.folder / "content"
        path.write_bytes(content)
        key = f"assets/{name}.png"
        await self.storage.put_file(key, path)
        async with self.sessions.begin() as session:
            about: dict[str, Any] = {"status": "completed", "generation_config": {"seed": 5}}
            session.add(GeneratedAsset(prompt=name, storage_path=key, **about))
        return key

    async def dataset(self, name: str = "me") -> UUID:
        """A dataset with one picture whose caption is in more than one script."""
        path = self.folder / "content"
        path.write_bytes(name.encode())
        dataset = Dataset(name=name, storage_path=f"datasets/{name}", image_count=1, is_processed=True)
        key = f"datasets/{name}/1.png"
        await self.storage.put_file(key, path)
        image: dict[str, Any] = {"filename": "Käse 猫.png", "caption": 'a "cat"\n猫', "sha256": "a" * 64}
        async with self.sessions.begin() as session:
            session.add(dataset)
            session.add(
                DatasetImage(dataset_id=dataset.id, position=0, key=key, size_bytes=2, width=8, height=8, **image)
            )
        return dataset.id

    async def fill(self) -> None:
        """Some of everything, jobs in several states among it."""
        for kind in Kind:
            if kind in (Kind.IMAGE, Kind.TRAINING, Kind.IMPORT):
                await add(self.sessions, kind, affinity="flux-tiny")
        await self.dataset()
        await self.picture("one", b"1" * 1000)

    async def fill_every_column(self) -> None:
        """One row of each table, with a value in every column."""
        made: dict[str, dict[str, Any]] = {}
        async with self.sessions.begin() as session:
            await session.execute(sa.delete(Installation))
            for table in SQLModel.metadata.sorted_tables:
                made[table.name] = {column.name: _value_of(column, made) for column in table.c}
                await session.execute(table.insert().values(made[table.name]))

    async def rows(self) -> dict[str, list[dict[str, Any]]]:
        """All of them, by table, in the order of their keys."""
        found = {}
        async with self.sessions() as session:
            for table in SQLModel.metadata.sorted_tables:
                rows = (await session.execute(sa.select(table).order_by(*table.primary_key))).mappings().all()
                found[table.name] = [dict(row) for row in rows]
        return found

    async def content(self, key: str) -> bytes:
        return b"".join([chunk async for chunk in self.storage.open(key)])

    async def back_up(self, place: Place, **wishes: Any) -> Made:
        return await make(place, self.sessions, self.storage, self.settings, **wishes)


def _value_of(column: sa.Column[Any], made: Mapping[str, Mapping[str, Any]]) -> Any:
    for key in column.foreign_keys:
        return made[key.column.table.name][key.column.name]
    kinds: dict[type, Any] = {
        UUID: uuid4(),
        datetime: utcnow(),
        bytes: b"\x00\xff",
        str: "x",
        int: 2,
        bool: True,
        float: 1.5,
    }
    plain = column.type.impl_instance if isinstance(column.type, sa.types.TypeDecorator) else column.type
    return [] if isinstance(plain, sa.JSON) else kinds[plain.python_type]


@asynccontextmanager
async def home(settings: Settings) -> AsyncIterator[Home]:
    async with open_database(settings) as sessions, open_storage(settings) as storage:
        folder = settings.masuka_data_dir / "to-store"
        folder.mkdir(exist_ok=True)
        yield Home(settings, sessions, storage, folder)


@asynccontextmanager
async def place_in(folder: Path, settings: Settings) -> AsyncIterator[Place]:
    """A folder for backups."""
    async with open_storage(settings) as storage, open_place(settings, storage, folder) as place:
        yield place


def elsewhere(settings: Settings, folder: Path, **values: Any) -> Settings:
    """Another, new installation on the same servers."""
    return with_values(settings, masuka_data_dir=folder, **values)


async def bring_back(settings: Settings, place: Place, **wishes: Any) -> Restored:
    async with open_storage(settings) as storage:
        return await restore(place, storage, settings, **wishes)
