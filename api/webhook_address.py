"""What the URL and the secret of webhooks must look like."""

import base64
import binascii
from urllib.parse import urlsplit

SECRET_PREFIX = "whsec_"
SECRET_BYTES = range(24, 65)
"""Of the key itself, as Standard Webhooks has it."""
SCHEMES = ("http", "https")


def require_url(url: str) -> None:
    """Raises ValueError with the reason, which never repeats the URL: it may hold a password."""
    if not url.isprintable() or " " in url:
        raise ValueError("must have no spaces or control characters")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("is no URL") from None
    if parts.scheme not in SCHEMES or not host or port == 0:
        raise ValueError("must be an http:// or https:// URL with a host")


def host_of(url: str) -> str:
    """Of one that `require_url` takes."""
    return urlsplit(url).hostname or ""


def shown(url: str) -> str:
    """Scheme, host and port: what may be shown. Path and query are what many receivers know their senders by."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def signing_keys(secret: str) -> list[bytes]:
    """The keys of MASUKA_WEBHOOK_SECRET; more than one while receivers change over. Raises ValueError."""
    return [_key(word) for word in secret.split()]


def _key(word: str) -> bytes:
    try:
        key = base64.b64decode(word.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not word.startswith(SECRET_PREFIX) or len(key) not in SECRET_BYTES:
        raise ValueError("must be whsec_ and 24 to 64 bytes in base64: echo whsec_$(openssl rand -base64 32)")
    return key
