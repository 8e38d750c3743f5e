"""What the Hugging Face Hub says of a file on the way to it. Pure."""

import re
from collections.abc import Iterable, Mapping

LINKED_ETAG = "x-linked-etag"
"""The SHA-256 of a large file, in quotes."""
_SHA256 = re.compile(r'"?([0-9a-f]{64})"?')


def promised_sha256(
    passed: Iterable[tuple[str, Mapping[str, str]]], last: Mapping[str, str], hub: str | None
) -> str | None:
    """Of the file, by an answer of the hub itself: who it redirects to does not vouch for it.

    `passed`: host and headers of each redirect; `last`: headers of the answer that has the file.
    """
    by_hub = [headers for host, headers in passed if host == hub]
    if hub is not None and not by_hub:
        by_hub = [last]
    found = (_SHA256.fullmatch(headers.get(LINKED_ETAG, "")) for headers in by_hub)
    return next((match[1] for match in found if match), None)
