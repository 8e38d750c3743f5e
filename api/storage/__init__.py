"""Where files are kept: a bucket when one is named in the environment, else the local disk."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from api.settings import Settings
from api.storage.base import Storage, StoredFile
from api.storage.local import open_local
from api.storage.s3 import open_s3

__all__ = ["Storage", "StoredFile", "open_storage"]


@asynccontextmanager
async def open_storage(settings: Settings) -> AsyncIterator[Storage]:
    """The storage these settings name, usable inside the context and from this event loop alone.

    Open one per process: making an S3 client blocks for a quarter of a second.
    Raises ConfigError if the settings cannot make a client, StorageError if the folder cannot be made.
    """
    opened = open_s3(settings) if settings.s3_bucket_name else open_local(settings.masuka_data_dir / "storage")
    async with opened as storage:
        yield storage
