"""Where files are kept: a bucket when one is named in the environment, else the local disk."""

import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from api.settings import Settings
from api.storage.base import Storage, StoredFile, on_disk
from api.storage.local import open_local

__all__ = ["Storage", "StoredFile", "on_disk", "open_storage"]


@asynccontextmanager
async def open_storage(settings: Settings) -> AsyncIterator[Storage]:
    """The storage these settings name, usable inside the context and from this event loop alone.

    Open one per process: making an S3 client blocks for a quarter of a second.
    Raises ConfigError if the settings cannot make a client, StorageError if the folder cannot be made.
    """
    if settings.s3_bucket_name:
        # The client and what it needs take as long to load as all the rest of a process: only who has a bucket waits.
        opening = importlib.import_module("api.storage.s3").open_s3(settings)
    else:
        opening = open_local(settings.masuka_data_dir / "storage")
    async with opening as storage:
        yield storage
