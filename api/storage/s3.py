"""Files in an S3 bucket: AWS, Cloudflare R2, or another server that speaks its protocol.

Needs no more than the permissions Put, Get and Delete. Without the permission to list, AWS answers 403 for a key
that is not there, to HEAD and GET alike, so a missing file is told from a real refusal only by `check`.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aioboto3
from aiobotocore.config import AioConfig
from botocore.exceptions import BotoCoreError, ClientError

from api.errors import ConfigError, StorageError
from api.settings import Settings
from api.storage.base import StoredFile, content_disposition, require_key, require_same, round_trip
from api.storage.files import CHUNK_BYTES, read_chunks, save, tally
from api.storage.s3_errors import BROKEN_STREAM, code_of, translated
from api.storage.s3_upload import Uploader, best_effort

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import GetObjectOutputTypeDef

TRANSFERS = 4
"""Parts of 5 MB on their way at once, each of them several times in memory."""
CONNECT_TIMEOUT_SECONDS = 10
READ_TIMEOUT_SECONDS = 60
ATTEMPTS = 4  # of one request; with the back-off of botocore's standard mode at most 7 s of waiting
RESUMES = 3  # of one download that breaks without giving a byte


class S3Storage:
    """One bucket through one client, which the process shares."""

    def __init__(self, client: "S3Client", bucket: str, endpoint: str | None) -> None:
        self._client = client
        self._bucket = bucket
        self._endpoint = endpoint
        self._uploader = Uploader(client, TRANSFERS)

    async def put_file(self, key: str, path: Path, content_type: str | None = None) -> StoredFile:
        require_key(key)
        sent = await tally(key, read_chunks(path))
        with translated(self._bucket, self._endpoint):
            headers = {"ContentType": content_type} if content_type else {}
            await self._uploader.upload(path, sent.size, self._bucket, key, headers)
        try:
            stored = await tally(key, self._read(key))
            require_same(sent, stored)
        except FileNotFoundError as exc:
            raise StorageError(
                f"{key} is not there after it was written.", code="storage_verify_failed", value=key
            ) from exc
        except StorageError as exc:
            if exc.code != "storage_unreachable":
                await best_effort(
                    "s3_discard_failed", self._client.delete_object(Bucket=self._bucket, Key=key), key=key
                )
            raise
        return stored

    async def get_file(self, key: str, path: Path) -> StoredFile:
        return await save(key, self.open(key), path)

    async def open(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        try:
            async with aclosing(self._read(key, start, end)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except (FileNotFoundError, StorageError) as exc:
            if await self._is_missing(exc):
                raise FileNotFoundError(key) from exc
            raise

    async def size(self, key: str) -> int | None:
        try:
            with translated(self._bucket, self._endpoint):
                response = await self._get(key, 0, 1)
                if response is None:
                    return 0
                async with response["Body"]:
                    return int(response["ContentRange"].rpartition("/")[2])  # bytes 0-0/1234
        except (FileNotFoundError, StorageError) as exc:
            if await self._is_missing(exc):
                return None
            raise

    async def _is_missing(self, exc: FileNotFoundError | StorageError) -> bool:
        """Whoever may not list a bucket is denied what is not there; when nothing else is denied, that was it.

        Raises StorageError `storage_denied` when it is.
        """
        if isinstance(exc, StorageError) and exc.code == "storage_denied":
            await self.check()
            return True
        return isinstance(exc, FileNotFoundError)

    async def delete(self, key: str) -> None:
        with translated(self._bucket, self._endpoint):
            await self._client.delete_object(Bucket=self._bucket, Key=require_key(key))

    async def presigned_url(self, key: str, *, expires_seconds: int, filename: str) -> str | None:
        params = {
            "Bucket": self._bucket,
            "Key": require_key(key),
            "ResponseContentDisposition": content_disposition(filename),
        }
        with translated(self._bucket, self._endpoint):
            return await self._client.generate_presigned_url("get_object", Params=params, ExpiresIn=expires_seconds)

    async def check(self) -> None:
        await round_trip(self)

    def local_path(self, key: str) -> Path | None:
        require_key(key)
        return None

    # ---- reading ---------------------------------------------------------------------------------------------------

    async def _read(self, key: str, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        """The bytes asked for, over as many connections as it takes; 403 is an error here."""
        etag, breaks = "", 0
        while end is None or start < end:
            with translated(self._bucket, self._endpoint):
                response = await self._get(key, start, end, etag)
                if response is None:
                    return
                etag = response["ETag"]
                body = response["Body"]
                try:
                    async with body:
                        async for chunk in body.iter_chunks(CHUNK_BYTES):
                            yield chunk
                            start, breaks = start + len(chunk), 0
                    return
                except BROKEN_STREAM:
                    breaks += 1
                    if breaks > RESUMES:
                        raise

    async def _get(self, key: str, start: int, end: int | None, etag: str = "") -> "GetObjectOutputTypeDef | None":
        """The object from `start` on; None if it has no more bytes than that."""
        only: dict[str, Any] = {"IfMatch": etag} if etag else {}
        if start or end is not None:
            only["Range"] = f"bytes={start}-" if end is None else f"bytes={start}-{end - 1}"
        try:
            return await self._client.get_object(Bucket=self._bucket, Key=require_key(key), **only)
        except ClientError as exc:
            if code_of(exc) in ("InvalidRange", "416"):
                return None
            raise


@asynccontextmanager
async def open_s3(settings: Settings) -> AsyncIterator[S3Storage]:
    """The bucket named in `settings`; nothing is sent yet."""
    endpoint = settings.s3_endpoint
    async with AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(aioboto3.Session().client("s3", **client_options(settings)))
        except (ValueError, BotoCoreError) as exc:
            raise ConfigError(
                f"No S3 client can be made with these settings: {str(exc).rstrip('.')}.",
                value=endpoint,
                hint="Check S3_REGION and S3_ENDPOINT_URL (https:// too), and AWS_PROFILE if it is set.",
            ) from exc
        yield S3Storage(client, settings.s3_bucket_name, endpoint)


def client_options(settings: Settings) -> dict[str, Any]:
    """How to reach AWS by the bucket's own host name, or another server by its endpoint and path."""
    endpoint = settings.s3_endpoint
    return {
        "region_name": settings.s3_region,
        "endpoint_url": endpoint,
        "aws_access_key_id": settings.aws_access_key_id,
        "aws_secret_access_key": settings.aws_secret_access_key.get_secret_value(),
        "config": AioConfig(
            signature_version="s3v4",  # the default would sign links the old way
            s3={"addressing_style": "virtual" if endpoint is None else "path"},
            # R2 refuses the checksums botocore adds by default, and AWS wants those of all parts repeated at the end of
            # a multipart upload. The signature covers a SHA-256 of every body anyway, and we read back.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            ignore_configured_endpoint_urls=True,  # AWS_ENDPOINT_URL is not a setting of ours
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=READ_TIMEOUT_SECONDS,
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            max_pool_connections=2 * TRANSFERS,
        ),
    }
