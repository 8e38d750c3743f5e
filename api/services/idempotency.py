"""`Idempotency-Key`: a repeated POST gets the first answer again, and the work is done once.

The answer is written in the same transaction as the work, so a crash leaves both or neither.
"""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.db import Sessions
from api.errors import ConflictError
from api.lease import new_owner, owner_is_dead
from api.models import StoredAnswer
from api.models.base import utcnow

log = structlog.get_logger(__name__)

KEPT = timedelta(hours=24)
POLL_SECONDS = 0.05
WAIT_SECONDS = 60.0
TOUCH_SECONDS = 15.0
ABANDONED = timedelta(seconds=50)
"""A request on another host that has given no sign of life for so long is dead; here the process is looked at."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The right to carry out the request with this key, until somebody takes it for dead."""

    key: str
    owner: str


def fingerprint(method: str, path: str, fields: Mapping[str, Any]) -> str:
    """What makes two requests the same: method, path, parsed fields, hashes of files."""
    text = json.dumps([method, path, fields], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


async def begin(
    sessions: Sessions, key: str, print_: str, *, wait_seconds: float = WAIT_SECONDS
) -> StoredAnswer | Hold:
    """The stored answer of an earlier request, or the right to do the work.

    Waits while another request with this key is being carried out; equal ones of one process are better kept in
    `Repetitions`. Raises ConflictError `idempotency_key_reused` when the key came with another request, ConflictError
    `idempotency_key_busy` when the other does not end.
    """
    hold = Hold(key, new_owner())
    deadline = utcnow() + timedelta(seconds=wait_seconds)
    while True:
        # Read first: a repetition then needs no lock, and SQLite has only one to give.
        async with sessions.begin() as session:
            stored = await session.get(StoredAnswer, key)
            if stored is not None and await _drop_if_over(session, stored):
                continue
        if stored is None:
            if await _insert(sessions, hold, print_):
                return hold
            continue
        if stored.fingerprint != print_:
            raise ConflictError(
                "This Idempotency-Key was used for another request.",
                code="idempotency_key_reused",
                value=key,
                hint="Use a new key for a new request.",
            )
        if stored.status_code is not None:
            return stored
        if utcnow() > deadline:
            raise busy(key)
        await asyncio.sleep(POLL_SECONDS)


async def _insert(sessions: Sessions, hold: Hold, print_: str) -> bool:
    try:
        async with sessions.begin() as session:
            session.add(StoredAnswer(key=hold.key, fingerprint=print_, owner=hold.owner))
    except IntegrityError:
        return False
    return True


async def _drop_if_over(session: AsyncSession, stored: StoredAnswer) -> bool:
    """Whether this answer was too old or its request dead, and is gone now (whoever removed it)."""
    now = utcnow()
    if stored.status_code is None:
        over = owner_is_dead(stored.owner) or stored.touched_at < now - ABANDONED
    else:
        over = stored.created_at < now - KEPT
    if over:
        same = (
            col(StoredAnswer.key) == stored.key,
            col(StoredAnswer.owner) == stored.owner,
            col(StoredAnswer.touched_at) == stored.touched_at,
        )
        await session.execute(sa.delete(StoredAnswer).where(*same))
    return over


@asynccontextmanager
async def alive(sessions: Sessions, hold: Hold) -> AsyncIterator[None]:
    """Give signs of life while the work goes on, so that nobody takes a long upload for dead."""
    touching = asyncio.create_task(_touch_forever(sessions, hold))
    try:
        yield
    finally:
        touching.cancel()
        await asyncio.gather(touching, return_exceptions=True)


async def _touch_forever(sessions: Sessions, hold: Hold) -> None:
    while True:
        await asyncio.sleep(TOUCH_SECONDS)
        try:
            async with sessions.begin() as session:
                await session.execute(sa.update(StoredAnswer).where(*_held(hold)).values(touched_at=utcnow()))
        except SQLAlchemyError as exc:
            log.warning("idempotency_key_not_touched", error=str(exc))


async def keep(session: AsyncSession, hold: Hold, status_code: int, body: dict[str, Any], media_type: str) -> None:
    """Keep the answer, in the transaction of the work. Raises ConflictError when somebody took the key over."""
    kept = await session.execute(
        sa.update(StoredAnswer)
        .where(*_held(hold))
        .values(status_code=status_code, body=body, media_type=media_type)
        .returning(col(StoredAnswer.key))
    )
    if kept.first() is None:
        raise busy(hold.key)


async def forget(sessions: Sessions, hold: Hold) -> None:
    """The work failed in a way that may not happen again: let a repetition try."""
    async with sessions.begin() as session:
        await session.execute(sa.delete(StoredAnswer).where(*_held(hold)))


def _held(hold: Hold) -> tuple[sa.ColumnElement[bool], ...]:
    unanswered = col(StoredAnswer.status_code).is_(None)
    return (col(StoredAnswer.key) == hold.key, col(StoredAnswer.owner) == hold.owner, unanswered)


def busy(key: str) -> ConflictError:
    return ConflictError(
        "Another request with this Idempotency-Key is still being carried out.",
        code="idempotency_key_busy",
        value=key,
        hint="Wait for it, or use a new key for a new request.",
    )
