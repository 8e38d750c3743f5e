"""Secrets in what is shown: each of their bytes becomes a star, so that every offset stays what it was."""

from collections.abc import Iterable

SHORTEST = 6
"""A shorter one would star ordinary words, and keeps nobody out."""


def masked(data: bytes, secrets: Iterable[str]) -> bytes:
    for secret in secrets:
        known = secret.encode()
        if len(known) >= SHORTEST:
            data = data.replace(known, b"*" * len(known))
    return data


def margin(secrets: Iterable[str]) -> int:
    """How many bytes around a range must be known, so that a secret is seen which its edge cuts."""
    return max((len(secret.encode()) for secret in secrets), default=1) - 1
