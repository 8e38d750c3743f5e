"""Sending one file to S3: whole when it is small, else in parts side by side."""

import asyncio
import math
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from api.storage.files import read_range
from api.storage.s3_errors import S3_ERRORS

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import CompletedPartTypeDef

PART_BYTES = 5 << 20  # S3's least; signing one holds up the event loop for about 10 ms
MAX_PARTS = 10_000  # S3's limit
CLEANUP_SECONDS = 10

log = structlog.get_logger(__name__)


class Uploader:
    """Uploads through one client, with never more than `transfers` parts in memory over all of them."""

    def __init__(self, client: "S3Client", transfers: int) -> None:
        self._client = client
        self._transfers = asyncio.Semaphore(transfers)

    async def upload(self, path: Path, size: int, bucket: str, key: str, headers: dict[str, Any]) -> None:
        """Put `size` bytes of the file at `path` under `key`; raises botocore's errors, and OSError for the file."""
        if size <= PART_BYTES:
            async with self._transfers:
                body = await read_range(path, 0, size)
                await self._client.put_object(Bucket=bucket, Key=key, Body=body, **headers)
            return
        created = await self._client.create_multipart_upload(Bucket=bucket, Key=key, **headers)
        target: dict[str, Any] = {"Bucket": bucket, "Key": key, "UploadId": created["UploadId"]}
        async with AsyncExitStack() as unless_completed:
            unless_completed.push_async_callback(self._abort, target)
            parts = await self._upload_parts(path, size, target)
            await self._client.complete_multipart_upload(**target, MultipartUpload={"Parts": parts})
            unless_completed.pop_all()

    async def _upload_parts(self, path: Path, size: int, target: dict[str, Any]) -> "list[CompletedPartTypeDef]":
        step = part_bytes(size)
        try:
            async with asyncio.TaskGroup() as group:
                parts = [
                    group.create_task(self._upload_part(path, start, min(start + step, size), number, target))
                    for number, start in enumerate(range(0, size, step), 1)
                ]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [part.result() for part in parts]

    async def _upload_part(
        self, path: Path, start: int, end: int, number: int, target: dict[str, Any]
    ) -> "CompletedPartTypeDef":
        async with self._transfers:
            body = await read_range(path, start, end)
            answer = await self._client.upload_part(**target, PartNumber=number, Body=body)
        return {"PartNumber": number, "ETag": answer["ETag"]}

    async def _abort(self, target: dict[str, Any]) -> None:
        # Parts of an upload that was never completed are billed, and no listing of files shows them.
        await best_effort("s3_abort_failed", self._client.abort_multipart_upload(**target), key=target["Key"])


def part_bytes(size: int) -> int:
    """The size of all parts but the last; R2 wants them equal."""
    return max(PART_BYTES, math.ceil(size / MAX_PARTS))


async def best_effort(event: str, request: Awaitable[object], **context: str) -> None:
    """Clean up if it can be done, also while cancelled; the caller has a better error to raise than this one's."""
    try:
        await asyncio.wait_for(asyncio.shield(asyncio.ensure_future(request)), CLEANUP_SECONDS)
    except (*S3_ERRORS, TimeoutError) as exc:
        log.warning(event, reason=f"{type(exc).__name__}: {exc}", **context)
