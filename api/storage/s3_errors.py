"""What S3 and its relatives say when they refuse, as our own errors.

Codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html; R2 answers with the same names.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import aiohttp
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
)

from api.errors import StorageError

# A body that stops half-way; aiobotocore lets aiohttp's own error for it through.
BROKEN_STREAM = (HTTPClientError, IncompleteReadError, aiohttp.ClientError)
S3_ERRORS = (ClientError, BotoCoreError, aiohttp.ClientError)
UNREACHABLE = (*BROKEN_STREAM, ConnectionError)


class _Meaning(NamedTuple):
    code: str
    detail: str
    hint: str


_DENIED = _Meaning(
    "storage_denied",
    "the key is not allowed to do this",
    "Give AWS_ACCESS_KEY_ID the permissions to put, get and delete objects in this bucket.",
)
_CREDENTIALS = _Meaning(
    "storage_credentials_invalid",
    "the key id or its secret is wrong or has expired",
    "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
)
_REGION = _Meaning(
    "storage_region_wrong", "the bucket is in another region", "Set S3_REGION to the region of the bucket."
)
_BUSY = _Meaning("storage_unreachable", "the storage is too busy or broken", "It may work again in a minute.")

_MEANINGS: dict[str, _Meaning] = {
    **dict.fromkeys(("AccessDenied", "Forbidden", "403", "AllAccessDisabled", "AccountProblem"), _DENIED),
    **dict.fromkeys(
        ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "Unauthorized", "401"),
        _CREDENTIALS,
    ),
    **dict.fromkeys(
        ("PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "301"), _REGION
    ),
    **dict.fromkeys(("SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "500", "503"), _BUSY),
    "NoSuchBucket": _Meaning(
        "storage_bucket_missing", "there is no such bucket", "Make the bucket, or check S3_BUCKET_NAME and S3_REGION."
    ),
    "RequestTimeTooSkewed": _Meaning(
        "storage_clock_skewed", "this machine's clock is wrong", "Set the clock; S3 allows 15 minutes."
    ),
    "QuotaExceeded": _Meaning("disk_full", "the storage is full", "Free space there, or raise its quota."),
}


def code_of(exc: ClientError) -> str:
    """S3's own code; for an answer without a body, the HTTP status."""
    return exc.response.get("Error", {}).get("Code", "")


@contextmanager
def translated(bucket: str, endpoint: str | None) -> Iterator[None]:
    """Raise StorageError, or FileNotFoundError for a missing key, for whatever botocore raises inside."""
    try:
        yield
    except ClientError as exc:
        if code_of(exc) in ("NoSuchKey", "404"):
            raise FileNotFoundError("no such key") from exc
        raise refusal(exc, bucket) from exc
    except UNREACHABLE as exc:
        raise StorageError(
            f"The storage at {endpoint or 'AWS S3'} does not answer ({type(exc).__name__}).",
            code="storage_unreachable",
            value=bucket,
            hint="Check the network, S3_ENDPOINT_URL and S3_REGION.",
        ) from exc
    except FlexibleChecksumError as exc:
        raise StorageError(
            "The storage returned bytes that do not fit their checksum.", code="storage_verify_failed", value=bucket
        ) from exc
    except BotoCoreError as exc:
        raise StorageError(f"The S3 client failed: {exc}.", value=bucket) from exc


def refusal(exc: ClientError, bucket: str) -> StorageError:
    """The meaning of an error answer."""
    code = code_of(exc)
    action = f"{exc.operation_name} in bucket {bucket}"
    meaning = _MEANINGS.get(code)
    if meaning is None:
        message = exc.response.get("Error", {}).get("Message", "")
        return StorageError(f"{action}: {code} {message}".strip() + ".", value=bucket)
    return StorageError(f"{action}: {meaning.detail} ({code}).", code=meaning.code, value=bucket, hint=meaning.hint)
