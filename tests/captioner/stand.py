"""An installed captioner that does as it is told, and datasets for it."""

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from api.domain.captioning import CaptionerName
from api.domain.engine import TrainerInstall
from api.engines import receipt
from api.engines.receipt import Receipt
from api.models import Captioning, CaptioningImage, Dataset, DatasetImage, Job
from api.resources import Resources
from api.services import captionings
from api.services.captionings import CaptionRequest
from api.settings import Settings
from api.storage.base import Storage
from tests.dataset_rows import add_dataset, image_rows
from tests.job_rows import read
from tests.service import png, with_values
from tests.waiting import until_async

FAKE = Path(__file__).with_name("fake_captioner.py")
REVISION = "4271c66"


def fake_engines(folder: Path, *names: CaptionerName) -> Path:
    """Captioners without weights, and a SimpleTuner whose Python is the fake captioner."""
    engines = folder / "engines"
    install_captioners(engines, *names)
    (engines / "simpletuner").mkdir()
    python = engines / "python"
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(FAKE))} "$@"\n')
    python.chmod(0o755)
    receipt.write(engines / "simpletuner", Receipt("", "3.1.6", str(FAKE), str(python)))
    return engines


def install_captioners(engines: Path, *names: CaptionerName) -> None:
    for name in names:
        model = engines / name / "model"
        model.mkdir(parents=True)
        (model / "config.json").touch()
        (model / "acts.json").write_text("{}")
        receipt.write(engines / name, Receipt("", REVISION))


def fake_install(engines: Path) -> TrainerInstall:
    return TrainerInstall(engines / "python", FAKE, "3.1.6", gpu=False)


def with_fake_captioner(settings: Settings, folder: Path) -> Settings:
    return with_values(settings, masuka_engines_dir=fake_engines(folder, *CaptionerName))


@dataclass(frozen=True)
class Stand:
    """The fake Florence-2 of these resources."""

    resources: Resources

    @property
    def folder(self) -> Path:
        return self.resources.settings.engines_dir / CaptionerName.FLORENCE_2 / "model"

    def tell(self, **acts: list[str]) -> None:
        """From its next start on it does this about pictures whose name has the key in it."""
        (self.folder / "acts.json").write_text(json.dumps(acts))

    @property
    def asked(self) -> list[tuple[int, str]]:
        """(pid, name) of every picture that it was asked about."""
        path = self.folder / "asked.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(int(line.split()[0]), line.split()[1]) for line in lines]

    @property
    def names(self) -> list[str]:
        return [name for _, name in self.asked]

    async def dataset(self, *captions: str, trigger_word: str | None = "ohwx") -> UUID:
        """With a stored picture for each caption."""
        async with self.resources.sessions.begin() as session:
            dataset_id = await add_dataset(session, *captions, trigger_word=trigger_word)
            for number, row in enumerate(await image_rows(session, dataset_id)):
                await _store(self.resources.storage, row, number, self.resources.settings.masuka_data_dir)
        return dataset_id

    async def replace(self, image: DatasetImage, data: bytes) -> None:
        """What is stored of an image is these bytes."""
        path = self.resources.settings.masuka_data_dir / "replacement"
        path.write_bytes(data)
        stored = await self.resources.storage.put_file(image.key, path)
        async with self.resources.sessions.begin() as session:
            (await session.get_one(DatasetImage, image.id)).sha256 = stored.sha256

    async def begin(self, dataset_id: UUID, captioner: str = "florence-2", **body: Any) -> Captioning:
        """A pending captioning."""
        request = CaptionRequest(captioner=CaptionerName(captioner), **body)
        async with self.resources.sessions.begin() as session:
            return await captionings.submit(session, self.resources.settings, list(CaptionerName), dataset_id, request)

    async def ended(self, row: Captioning, seconds: float = 30) -> Job:
        async with self.resources.sessions() as session:
            task_id = captionings.task_of(await captionings.get(session, row.id))

        async def over() -> bool:
            return (await read(self.resources.sessions, task_id)).finished_at is not None

        await until_async(over, seconds)
        return await read(self.resources.sessions, task_id)

    async def images(self, dataset_id: UUID) -> list[DatasetImage]:
        async with self.resources.sessions() as session:
            return await image_rows(session, dataset_id)

    async def captions(self, dataset_id: UUID) -> list[str]:
        return [image.caption for image in await self.images(dataset_id)]

    async def outcomes(self, row: Captioning) -> list[CaptioningImage]:
        async with self.resources.sessions() as session:
            return await captionings.images(session, row.id)

    async def row(self, table: type[Any], row_id: UUID) -> Any:
        async with self.resources.sessions() as session:
            return await session.get_one(table, row_id)

    async def generated(self, dataset_id: UUID) -> bool:
        dataset: Dataset = await self.row(Dataset, dataset_id)
        return dataset.captions_generated


async def _store(storage: Storage, row: DatasetImage, number: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    picture = folder / f"{number}.png"
    picture.write_bytes(png(number))
    stored = await storage.put_file(row.key, picture)
    picture.unlink()
    row.sha256, row.size_bytes = stored.sha256, stored.size
