"""What lists cost: every filter has an index that is read in the order of the list, so that nothing is sorted."""

import itertools
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from api.db import Sessions
from api.models import GeneratedAsset
from api.services import gallery
from api.services.asset_search import Filters, conditions
from api.services.pages import encode_cursor

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
LORA = UUID(int=7)
ROWS = 400
MIDDLE = encode_cursor(BEGIN + timedelta(hours=300), UUID(int=301))
PLANS = {
    "shown": (Filters(), Filters(created_after=BEGIN, created_before=BEGIN + timedelta(days=1))),
    "status": (Filters(status="completed"),),
    "seed": (Filters(seed=7), Filters(seed=7, favourite=False)),
    "workflow": (Filters(workflow="mine"),),
    "favourite": (Filters(favourite=True),),
    "deleted": (Filters(deleted=True),),
    "words": (
        Filters(prompt="rare"),
        Filters(search="rare"),
        Filters(tag="rare"),
        Filters(model_id=LORA),
        Filters(base_model="rare"),
    ),
}


def _asset(number: int) -> GeneratedAsset:
    rare = number == 0
    config: dict[str, Any] = {"seed": number, "workflow": "mine" if rare else "flux_text_to_image"}
    config |= {"base_model": "rare" if rare else "flux-dev", "loras": [{"model_id": str(LORA)}] if rare else []}
    return GeneratedAsset(
        id=UUID(int=number + 1),
        prompt="rare" if rare else f"a photo of number {number}",
        generation_config=config,
        status="completed" if rare else "failed",
        created_at=BEGIN + timedelta(hours=number),
        tags=["rare"] if rare else [],
        favourite=rare,
        deleted_at=BEGIN if number == 1 else None,
    )


@pytest.fixture
async def session(sessions: Sessions) -> AsyncIterator[AsyncSession]:
    async with sessions() as opened:
        opened.add_all(_asset(number) for number in range(ROWS))
        await opened.commit()
        if opened.get_bind().dialect.name == "postgresql":  # it learns by itself; on so few rows it would read them all
            await opened.execute(sa.text("ANALYZE generated_asset"))
            for way in ("seqscan", "sort", "incremental_sort"):
                await opened.execute(sa.text(f"SET LOCAL enable_{way} = off"))
        yield opened


async def plan(session: AsyncSession, asking: Awaitable[object]) -> str:
    """What the database says that it does for the one statement of `asking`."""
    connection = await session.connection()
    asked: list[tuple[str, Any]] = []

    def hear(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    sa.event.listen(connection.sync_connection, "before_cursor_execute", hear)
    await asking
    sa.event.remove(connection.sync_connection, "before_cursor_execute", hear)
    ((statement, parameters),) = asked
    explain = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
    rows = await connection.exec_driver_sql(f"{explain} {statement}", parameters)
    return "\n".join(str(row[-1]) for row in rows)


@pytest.mark.parametrize("index", [index for index in PLANS if index != "words"])
async def test_a_filter_is_answered_by_its_index_and_nothing_is_sorted(session: AsyncSession, index: str) -> None:
    for filters, cursor in itertools.product(PLANS[index], (None, MIDDLE)):
        said = await plan(session, gallery.listed(session, filters, limit=3, cursor=cursor))
        assert f"ix_generated_asset_{index}" in said
        assert "TEMP B-TREE" not in said
        assert "Sort" not in said


async def test_words_are_answered_by_an_index(session: AsyncSession) -> None:
    """SQLite reads them in the order of the list; Postgres looks them up, or reads in order what is common."""
    for filters in PLANS["words"]:
        if session.get_bind().dialect.name == "sqlite":
            said = await plan(session, gallery.listed(session, filters, limit=3, cursor=MIDDLE))
            assert "ix_generated_asset_shown" in said
            assert "TEMP B-TREE" not in said
        else:
            (_, *words) = conditions(filters, "postgresql")  # of so few rows the order alone would be cheaper
            said = await plan(session, session.execute(sa.select(GeneratedAsset).where(*words)))
            assert "ix_generated_asset_words" in said


async def test_what_is_found_is_what_was_meant(session: AsyncSession) -> None:
    for filters in (one for index, many in PLANS.items() if index not in ("shown", "deleted", "seed") for one in many):
        found = await gallery.listed(session, filters, limit=3, cursor=None)
        assert [row.id for row in found.items] == [UUID(int=1)], filters
