"""Lists, newest first or in an order of their own, by cursor: a page costs the same wherever it is."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession
from sqlmodel import col

from api.errors import InputError

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    items: Sequence[Row]
    next_cursor: str | None


def encode_cursor(created_at: datetime, row_id: UUID) -> str:
    return _encode(f"{created_at.isoformat()}|{row_id}")


def _encode(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decode(cursor: str) -> tuple[str, str]:
    """Raises ValueError."""
    text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
    first, _, second = text.partition("|")
    return first, second


def decode_cursor(cursor: str) -> tuple[datetime, UUID]:
    """Raises InputError `cursor_invalid` for anything `encode_cursor` did not make."""
    try:
        when, row_id = _decode(cursor)
        position = datetime.fromisoformat(when), UUID(row_id)
        if position[0].tzinfo != UTC or encode_cursor(*position) != cursor:
            raise ValueError("not one of ours")
        return position
    except (ValueError, binascii.Error) as exc:
        raise _invalid(cursor) from exc


def _invalid(cursor: str) -> InputError:
    return InputError(
        "This cursor is not one that a list of this service gave out.",
        code="cursor_invalid",
        value=cursor,
        hint="Use `next_cursor` of the page before as it is, or leave `cursor` out.",
    )


async def page(
    session: AsyncSession, table: Any, *, limit: int, cursor: str | None, where: Sequence[sa.ColumnElement[bool]] = ()
) -> Page[Any]:
    """Rows of `table` by `created_at` and `id`, newest first."""
    query = sa.select(table).where(*where)
    if cursor is not None:
        created_at, row_id = decode_cursor(cursor)
        # As one value: of two conditions the planners make two searches, or none.
        position = (sa.literal(created_at, table.created_at.type), sa.literal(row_id, table.id.type))
        query = query.where(sa.tuple_(table.created_at, table.id) < sa.tuple_(*position))
    query = query.order_by(col(table.created_at).desc(), col(table.id).desc()).limit(limit + 1)
    rows = (await session.scalars(query)).all()
    more = len(rows) > limit
    rows = rows[:limit]
    return Page(rows, encode_cursor(rows[-1].created_at, rows[-1].id) if more else None)


# ---- by position -------------------------------------------------------------------------------------------------

MAX_POSITION = 2**31 - 1


async def ordered_page(
    session: AsyncSession, table: Any, where: sa.ColumnElement[bool], *, limit: int, cursor: str | None
) -> Page[Any]:
    """Rows of `table` by `position` and `id`, lowest first."""
    query = sa.select(table).where(where)
    if cursor is not None:
        position, row_id = _decode_position(cursor)
        after = (sa.literal(position, table.position.type), sa.literal(row_id, table.id.type))
        query = query.where(sa.tuple_(table.position, table.id) > sa.tuple_(*after))
    query = query.order_by(col(table.position), col(table.id)).limit(limit + 1)
    rows = (await session.scalars(query)).all()
    more = len(rows) > limit
    rows = rows[:limit]
    return Page(rows, _encode(f"{rows[-1].position}|{rows[-1].id}") if more else None)


def _decode_position(cursor: str) -> tuple[int, UUID]:
    """Raises InputError `cursor_invalid`."""
    try:
        position, row_id = _decode(cursor)
        found = int(position), UUID(row_id)
        if not 0 <= found[0] <= MAX_POSITION or _encode(f"{found[0]}|{found[1]}") != cursor:
            raise ValueError("not one of ours")
        return found
    except (ValueError, binascii.Error) as exc:
        raise _invalid(cursor) from exc
