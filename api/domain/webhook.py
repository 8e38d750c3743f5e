"""A webhook: what is told of a job's end, how it is signed (Standard Webhooks), and when it is tried again."""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from api.domain.text import Text

MAX_ATTEMPTS = 10
FIRST_DELAY_SECONDS = 5.0
DELAY_FACTOR = 4.0
LONGEST_DELAY_SECONDS = 12 * 3600.0
"""With these an answer is tried for over a day: after 5 s, 20 s, 80 s, ... 43 200 s."""
JITTER = 0.25
GONE = 410

WebhookUrl = Annotated[
    Text,
    Field(
        max_length=2000,
        description="Told when the job has ended, signed by MASUKA_WEBHOOK_SECRET; default: MASUKA_WEBHOOK_URL.",
        examples=["https://example.org/hooks/masuka"],
    ),
]
EventType = Literal[
    "image.completed",
    "image.failed",
    "image.cancelled",
    "training.completed",
    "training.failed",
    "training.cancelled",
]


class DeliveryStatus(StrEnum):
    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


def message(event: str, at: datetime, data: dict[str, Any]) -> dict[str, Any]:
    """The body, as Standard Webhooks shapes it."""
    return {"type": event, "timestamp": at.isoformat(), "data": data}


def signature(keys: Sequence[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """`webhook-signature`: one for each key, so that a receiver finds the one it knows."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    digests = [hmac.new(key, signed, hashlib.sha256).digest() for key in keys]
    return " ".join(f"v1,{base64.b64encode(digest).decode()}" for digest in digests)


def is_taken(status_code: int) -> bool:
    """Whether this answer says that the receiver has it; a redirect does not, and is not followed."""
    return 200 <= status_code < 300


def retry_seconds(attempt: int, luck: float) -> float | None:
    """How long after the attempt of this number the next is due; None: never. `luck`, 0 to 1, spreads them."""
    if attempt >= MAX_ATTEMPTS:
        return None
    delay = min(FIRST_DELAY_SECONDS * DELAY_FACTOR ** (attempt - 1), LONGEST_DELAY_SECONDS)
    return delay * (1 - JITTER + 2 * JITTER * luck)
