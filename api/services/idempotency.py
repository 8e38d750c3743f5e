"""`Idempotency-Key`: a repeated POST gets the first answer again, and the work is done once.

The answer is written in the same transaction as the work, so a crash leaves both or neither.
"""

import asyncio
import hashlib
import json
import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.db import Sessions
from api.errors import ConflictError, InputError
from api.models import StoredAnswer
from api.models.base import utcnow

KEPT = timedelta(hours=24)
POLL_SECONDS = 0.05
WAIT_SECONDS = 60.0
ABANDONED = timedelta(seconds=120)
"""A first request that has not ended after this long is taken for dead: another may do the work."""


def fingerprint(method: str, path: str, fields: Mapping[str, Any]) -> str:
    """What makes two requests the same: method, path, parsed fields, hashes of files."""
    text = json.dumps([method, path, fields], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


async def begin(sessions: Sessions, key: str, print_: str) -> StoredAnswer | str:
    """The stored answer of an earlier request, or the right to do the work, as its owner's name.

    Waits while another request with this key is being carried out. Raises InputError `idempotency_key_reused`
    when the key came with another request, ConflictError when the other does not end.
    """
    owner = secrets.token_hex(8)
    deadline = utcnow() + timedelta(seconds=WAIT_SECONDS)
    while utcnow() < deadline:
        if await _insert(sessions, key, print_, owner):
            return owner
        async with sessions.begin() as session:
            stored = await session.get(StoredAnswer, key)
            if stored is not None and stored.fingerprint != print_:
                raise InputError(
                    "This Idempotency-Key was used for another request.",
                    code="idempotency_key_reused",
                    value=key,
                    hint="Use a new key for a new request.",
                )
            if stored is not None and stored.status_code is not None and stored.created_at > utcnow() - KEPT:
                return stored
            await _drop_if_dead(session, key)
        await asyncio.sleep(POLL_SECONDS)
    raise ConflictError(
        "The first request with this Idempotency-Key is still being carried out.",
        code="idempotency_key_busy",
        value=key,
    )


async def _insert(sessions: Sessions, key: str, print_: str, owner: str) -> bool:
    try:
        async with sessions.begin() as session:
            session.add(StoredAnswer(key=key, fingerprint=print_, owner=owner))
    except IntegrityError:
        return False
    return True


async def _drop_if_dead(session: AsyncSession, key: str) -> None:
    now = utcnow()
    dead = sa.and_(col(StoredAnswer.status_code).is_(None), col(StoredAnswer.created_at) < now - ABANDONED)
    old = col(StoredAnswer.created_at) < now - KEPT
    await session.execute(sa.delete(StoredAnswer).where(col(StoredAnswer.key) == key, sa.or_(dead, old)))


async def keep(
    session: AsyncSession, key: str, owner: str, status_code: int, body: dict[str, Any], media_type: str
) -> None:
    """Keep the answer, in the transaction of the work. Raises ConflictError when somebody took the key over."""
    kept = await session.execute(
        sa.update(StoredAnswer)
        .where(col(StoredAnswer.key) == key, col(StoredAnswer.owner) == owner)
        .values(status_code=status_code, body=body, media_type=media_type)
        .returning(col(StoredAnswer.key))
    )
    if kept.first() is None:
        raise ConflictError("Another request took this Idempotency-Key over.", code="idempotency_key_busy", value=key)


async def forget(sessions: Sessions, key: str, owner: str) -> None:
    """The work failed in a way that may not happen again: let a repetition try."""
    async with sessions.begin() as session:
        await session.execute(
            sa.delete(StoredAnswer).where(col(StoredAnswer.key) == key, col(StoredAnswer.owner) == owner)
        )
