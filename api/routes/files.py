"""Stored bytes over HTTP: local files with range requests, a bucket's by a presigned link."""

import hashlib
from contextlib import AsyncExitStack
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from api.errors import NotFoundError
from api.storage import Storage

LINK_SECONDS = 3600
_FRESHNESS = "private, no-cache"
"""Kept by who has asked, and shown again only after asking whether it is still there; that costs no bytes."""


async def stored_file(
    storage: Storage, key: str, *, filename: str, media_type: str, inline: bool = False, etag: str | None = None
) -> Response:
    """Raises NotFoundError `file_missing` when the storage has lost it."""
    if await storage.size(key) is None:
        raise NotFoundError("The file is gone from the storage.", code="file_missing", value=key)
    path = storage.local_path(key)
    if path is not None:
        return FileResponse(
            path,
            media_type=media_type,
            filename=filename,
            content_disposition_type="inline" if inline else "attachment",
            headers=_headers(etag),
        )
    url = await storage.presigned_url(key, expires_seconds=LINK_SECONDS, filename=filename)
    if url is None:
        raise NotFoundError("The storage gives no link for this file.", code="file_missing", value=key)
    return RedirectResponse(url, 307)


class PassingFile(FileResponse):
    """A file made for one answer, in a folder that goes with it: whatever is open in `stack` is closed at the end."""

    def __init__(self, stack: AsyncExitStack, path: Path, *, filename: str, media_type: str, etag: str) -> None:
        super().__init__(
            path,
            media_type=media_type,
            filename=filename,
            content_disposition_type="inline",
            headers=_headers(etag),
            stat_result=path.stat(),
        )
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._stack:
            await super().__call__(scope, receive, send)


def etag(*parts: object) -> str:
    """Of bytes that are the same whenever these are: such as the key of a file, which is never written twice."""
    return f'"{hashlib.sha256(repr(parts).encode()).hexdigest()[:32]}"'


def not_modified(request: Request, tag: str) -> Response | None:
    """304 for who has these bytes already."""
    known = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
    return Response(status_code=304, headers=_headers(tag)) if tag in known or "*" in known else None


def _headers(tag: str | None) -> dict[str, str] | None:
    return None if tag is None else {"ETag": tag, "Cache-Control": _FRESHNESS}
