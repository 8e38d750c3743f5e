"""The stream of a batch: one for all of its pictures, each of which it names as soon as it is done."""

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from uuid import UUID

from sse_starlette import ServerSentEvent

from api.domain.batch import Member, counts_of, snapshot_of
from api.domain.progress import Snapshot
from api.progress import Event
from api.resources import Resources
from api.services import batches, jobs
from api.services.standing import place_of

LOOK_SECONDS = 3.0
"""How late a change is seen of which Redis has said nothing."""
GATHER_SECONDS = 0.25
"""Changes that come together are told together: a reader of hundreds of pictures wants few events."""
RETRY_MILLISECONDS = 2000


def end_id(batch_id: UUID) -> str:
    """Id of the last event; the others have none, as each connection begins with the whole."""
    return f"end-{batch_id}"


async def has_ended(resources: Resources, batch_id: UUID) -> bool:
    """False again when one of its pictures is retried."""
    members, _ = await _look(resources, batch_id)
    return all(member.ended for member in members)


async def follow(resources: Resources, batch_id: UUID) -> AsyncGenerator[ServerSentEvent, None]:
    """Snapshots of the whole until it ends; `assets` are all pictures at first, and then those that have changed.

    What has happened is read from the rows, so that nothing is missed: an event only says when to look.
    """
    members, _ = await _look(resources, batch_id)
    async with resources.progress.listen(*(member.task_id for member in members)) as queue:
        told: tuple[frozenset[Member], Snapshot | None] = (frozenset(), None)
        while True:
            members, snapshot = await _look(resources, batch_id)
            ended = all(member.ended for member in members)
            if (frozenset(members), snapshot) != told:
                changed = [member for member in members if member not in told[0]]
                yield ServerSentEvent(
                    _data(snapshot, members, changed),
                    id=end_id(batch_id) if ended else None,
                    retry=RETRY_MILLISECONDS,
                )
            if ended:
                return
            told = frozenset(members), snapshot
            await _news(queue)


async def _look(resources: Resources, batch_id: UUID) -> tuple[list[Member], Snapshot]:
    async with resources.sessions() as session:
        members = await batches.members(session, batch_id)
        snapshot = snapshot_of(members)
        if snapshot.status == "pending":
            place = await place_of(session, resources.settings, await jobs.get(session, members[0].task_id))
            if place is not None:
                told = {"queue_position": place.position, "eta_seconds": place.eta_seconds, "message": place.message}
                snapshot = snapshot.with_changes(**told)
    return members, snapshot


async def _news(queue: "asyncio.Queue[Event]") -> None:
    """Until there may be some."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LOOK_SECONDS):
            await queue.get()
            await asyncio.sleep(GATHER_SECONDS)
    while not queue.empty():
        queue.get_nowait()


def _data(snapshot: Snapshot, members: Sequence[Member], changed: Sequence[Member]) -> str:
    counts = counts_of([member.status for member in members])
    pictures = [
        {"asset_id": str(member.asset_id), "status": member.status, "progress": round(member.progress, 1)}
        for member in changed
    ]
    return json.dumps({**snapshot.to_dict(), "counts": counts, "assets": pictures})
