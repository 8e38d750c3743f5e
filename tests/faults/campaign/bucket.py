"""Everything that the storage of a service has; the service itself needs no permission to list."""

from pathlib import Path

import aioboto3

from api.settings import Settings
from api.storage.s3 import client_options


async def keys_in(settings: Settings) -> list[str]:
    """All keys, sorted."""
    if not settings.s3_bucket_name:
        return local_keys(settings.masuka_data_dir / "storage")
    async with aioboto3.Session().client("s3", **client_options(settings)) as client:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=settings.s3_bucket_name)
        return sorted([item["Key"] async for page in pages for item in page.get("Contents", ())])


def local_keys(root: Path) -> list[str]:
    """Half-written files are no keys."""
    found = (path.relative_to(root) for path in root.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if not path.parts[0].startswith("."))
