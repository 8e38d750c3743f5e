"""What routes ask for: the resources, a transaction, ids and pages."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Path, Query, Request
from sqlalchemy.ext.asyncio import AsyncSession

from api.resources import Resources
from api.settings import Settings

AFTER_COMMIT = "after_commit"


# FastAPI runs what is not `async`, classes too, in a thread, which takes longer than most of what is done there.


async def get_resources(request: Request) -> Resources:
    resources: Resources = request.state.resources
    return resources


ResourcesDep = Annotated[Resources, Depends(get_resources)]


async def get_settings(resources: ResourcesDep) -> Settings:
    return resources.settings


SettingsDep = Annotated[Settings, Depends(get_settings)]


AfterCommit = Callable[[], Awaitable[None]]


async def get_session(resources: ResourcesDep) -> AsyncIterator[AsyncSession]:
    """One transaction per request, committed before the answer; bells ring only after it."""
    async with resources.sessions() as session:
        yield session
        await commit(session)


SessionDep = Annotated[AsyncSession, Depends(get_session, scope="function")]
"""`scope="function"`: FastAPI would otherwise commit after answering, and answer success for a failed commit."""


async def commit(session: AsyncSession) -> None:
    """End the transaction, and do what waited for that; a route that goes on after it holds no connection."""
    await session.commit()
    acts: list[AfterCommit] = session.info.pop(AFTER_COMMIT, [])
    for act in acts:
        await act()


def after_commit(session: AsyncSession, act: AfterCommit) -> None:
    """Do this once the transaction is safe, as with bells that a rollback must not ring."""
    session.info.setdefault(AFTER_COMMIT, []).append(act)


IdPath = Annotated[UUID, Path(examples=["6f1c9f8e-3a0b-4c57-9d5e-0d6f3c8f2b11"])]
Limit = Annotated[int, Query(ge=1, le=200, description="Rows on a page.")]
Cursor = Annotated[str | None, Query(max_length=200, description="`next_cursor` of the page before.")]
