"""Half-finished pictures in a stream of progress, as events named `preview`, for clients that ask for them."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TypeVar
from uuid import UUID

from sse_starlette import ServerSentEvent

from api.previews import Preview, Previews

EVENT = "preview"
Sent = TypeVar("Sent")


async def with_previews(
    events: AsyncGenerator[Sent, None], previews: Previews, assets: Mapping[UUID, UUID]
) -> AsyncGenerator[Sent | ServerSentEvent, None]:
    """The events, and between them previews of these pictures, by their jobs; at most two in a second.

    A preview has no id, so that a client that comes back says which snapshot it had last.
    """
    async with aclosing(events), previews.looking(list(assets)) as looking:
        news, picture = _next(events), asyncio.create_task(looking.next())
        try:
            while True:
                await asyncio.wait({news, picture}, return_when=asyncio.FIRST_COMPLETED)
                if news.done():
                    event = news.result()
                    if event is None:
                        return
                    yield event
                    news = _next(events)
                if picture.done():
                    yield _event(picture.result(), assets)
                    picture = asyncio.create_task(looking.next())
        finally:
            for task in (news, picture):
                task.cancel()
            await asyncio.wait({news, picture})


def _next(events: AsyncGenerator[Sent, None]) -> "asyncio.Task[Sent | None]":
    async def one() -> Sent | None:
        return await anext(events, None)

    return asyncio.create_task(one())


def _event(preview: Preview, assets: Mapping[UUID, UUID]) -> ServerSentEvent:
    image = f"data:image/jpeg;base64,{base64.b64encode(preview.jpeg).decode()}"
    return ServerSentEvent(json.dumps({"asset_id": str(assets[preview.job_id]), "image": image}), event=EVENT)
