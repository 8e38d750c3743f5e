"""Stored bytes over HTTP: local files with range requests, a bucket's by a presigned link."""

from starlette.responses import FileResponse, RedirectResponse, Response

from api.errors import NotFoundError
from api.storage import Storage

LINK_SECONDS = 3600


async def stored_file(storage: Storage, key: str, *, filename: str, media_type: str, inline: bool = False) -> Response:
    """Raises NotFoundError `file_missing` when the storage has lost it."""
    if await storage.size(key) is None:
        raise NotFoundError("The file is gone from the storage.", code="file_missing", value=key)
    path = storage.local_path(key)
    if path is not None:
        disposition = "inline" if inline else "attachment"
        return FileResponse(path, media_type=media_type, filename=filename, content_disposition_type=disposition)
    url = await storage.presigned_url(key, expires_seconds=LINK_SECONDS, filename=filename)
    if url is None:
        raise NotFoundError("The storage gives no link for this file.", code="file_missing", value=key)
    return RedirectResponse(url, 307)
