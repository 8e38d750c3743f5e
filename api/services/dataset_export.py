"""A dataset as a zip that other trainers read, and that this service takes back as it was."""

import io
import zipfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.domain.manifest import caption_name, manifest_of, names_in_zip
from api.domain.upload import MANIFEST_NAME
from api.models import Dataset, DatasetPicture
from api.services import dataset_versions, datasets
from api.storage import Storage

_MODE = 0o644 << 16


@dataclass(frozen=True, slots=True)
class Export:
    dataset: Dataset
    trigger_word: str | None
    images: Sequence[DatasetPicture]


async def find(session: AsyncSession, dataset_id: UUID, version_id: UUID | None) -> Export:
    """The dataset as it is, or as it was in a version. Raises NotFoundError."""
    dataset = await datasets.get(session, dataset_id)
    if version_id is None:
        return Export(dataset, dataset.trigger_word, await datasets.images(session, dataset_id))
    version = await dataset_versions.get(session, dataset_id, version_id)
    return Export(dataset, version.trigger_word, await dataset_versions.images(session, version_id))


async def zipped(storage: Storage, export: Export) -> AsyncGenerator[bytes, None]:
    """The zip, piece by piece, with a megabyte in memory; pictures are not compressed once more.

    Raises FileNotFoundError or StorageError in the middle when the storage cannot give a picture; the zip then lacks
    its table of contents, and nobody takes it for whole.
    """
    out, when = _Out(), export.dataset.updated_at
    names = names_in_zip(export.images)
    with zipfile.ZipFile(out, "w") as archive:
        for name, image in zip(names, export.images, strict=True):
            info = _entry(name, when)
            info.file_size = image.size_bytes
            with archive.open(info, "w") as entry:
                async with aclosing(storage.open(image.key)) as chunks:
                    async for chunk in chunks:
                        entry.write(chunk)
                        yield out.take()
            if image.caption:
                archive.writestr(_entry(caption_name(name), when), f"{image.caption}\n")
        about = manifest_of(names, export.images, export.trigger_word, export.dataset.dataset_metadata)
        archive.writestr(_entry(MANIFEST_NAME, when), about.model_dump_json(indent=1))
    yield out.take()


def _entry(name: str, when: datetime) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, when.timetuple()[:6])
    info.external_attr = _MODE
    return info


class _Out(io.RawIOBase):
    """Where a zip is written that is sent meanwhile: nobody can go back in it."""

    def __init__(self) -> None:
        self._written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        self._written += data
        return len(data)

    def take(self) -> bytes:
        """What was written since the last time."""
        taken, self._written = bytes(self._written), bytearray()
        return taken
