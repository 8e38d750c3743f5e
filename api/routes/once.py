"""`Idempotency-Key` on a route: `return await once(fields, status, work)`."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Header, Request
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import JSONResponse, Response

from api.errors import InputError
from api.resources import Resources
from api.routes.deps import ResourcesDep, SessionDep
from api.routes.problems import MEDIA_TYPE, problem
from api.services import idempotency
from api.services.idempotency import Hold
from api.services.repetitions import Repetitions

REPLAYED = "Idempotency-Replayed"

KeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=200,
        pattern=r"^[\x21-\x7e]+$",
        description="Repeat a request safely: the same key gets the first answer, and the work is done once.",
    ),
]


class Once:
    """Does the work of one POST once per key; without a key it just does it."""

    def __init__(self, request: Request, resources: Resources, session: AsyncSession, key: str | None) -> None:
        self._request = request
        self._repetitions: Repetitions = request.state.repetitions
        self._sessions = resources.sessions
        self._session = session
        self._key = key

    async def hashes(self, files: Sequence[Path]) -> list[str]:
        """What the files add to the fingerprint; without a key there is none, and nothing is read."""
        return [] if self._key is None else await asyncio.to_thread(lambda: [_sha256(path) for path in files])

    async def __call__(self, fields: Mapping[str, Any], status: int, work: Callable[[], Awaitable[BaseModel]]) -> Any:
        if self._key is None:
            return await work()
        print_ = idempotency.fingerprint(self._request.method, self._request.url.path, fields)
        async with self._repetitions.turn(self._key, print_) as found:
            if not isinstance(found, Hold):
                return _replay(found.body, found.status_code or status, found.media_type)
            async with idempotency.alive(self._sessions, found):
                return await self._first(found, status, work)

    async def _first(self, hold: Hold, status: int, work: Callable[[], Awaitable[BaseModel]]) -> BaseModel:
        try:
            result = await work()
            await idempotency.keep(self._session, hold, status, result.model_dump(mode="json"), "application/json")
            await self._session.commit()  # here, so that a commit that fails lets go of the key
        except InputError as exc:
            await self._session.rollback()  # SQLite has one writer, and ours may hold the lock
            await self._keep_refusal(hold, exc)
            raise
        except BaseException:
            await self._session.rollback()
            await idempotency.forget(self._sessions, hold)
            raise
        return result

    async def _keep_refusal(self, hold: Hold, error: InputError) -> None:
        body = problem(error).model_dump(mode="json", exclude_none=True)
        async with self._sessions.begin() as session:
            await idempotency.keep(session, hold, error.status, body, MEDIA_TYPE)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _replay(body: dict[str, Any], status: int, media_type: str) -> Response:
    return JSONResponse(body, status, {REPLAYED: "true"}, media_type)


async def get_once(request: Request, resources: ResourcesDep, session: SessionDep, key: KeyHeader = None) -> Once:
    return Once(request, resources, session, key)


OnceDep = Annotated[Once, Depends(get_once, scope="function")]
