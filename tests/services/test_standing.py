"""Where pending jobs stand, on both databases: in the order in which they are claimed, at the cost of a few queries."""

from datetime import timedelta
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlmodel import col

from api.db import Sessions
from api.domain.job import Kind
from api.domain.progress import Snapshot
from api.models import Job
from api.models.base import utcnow
from api.services import jobs
from api.services.standing import standing
from api.settings import Settings
from tests.job_rows import add, claim, started
from tests.service import with_values


async def done(sessions: Sessions, kind: Kind, seconds: float) -> None:
    """A job that took so long."""
    lease = await started(sessions, f"done {kind} {seconds}", kind)
    async with sessions.begin() as session:
        await jobs.complete(session, lease)
        began = utcnow() - timedelta(seconds=seconds)
        await session.execute(sa.update(Job).where(col(Job.id) == lease.job_id).values(started_at=began))


async def test_pictures_behind_a_training_know_their_place_and_its_time(sessions: Sessions, settings: Settings) -> None:
    await done(sessions, Kind.IMAGE, 8)
    running = await started(sessions, "b", Kind.TRAINING)
    async with sessions.begin() as session:
        await jobs.save_progress(session, running, Snapshot("training", step=5, total_steps=100, eta_seconds=600))
    pictures = [await add(sessions, seconds_ago=n) for n in (3, 2, 1)]

    async with sessions() as session:
        found = await standing(session, settings)

    assert [found[job_id].position for job_id in pictures] == [1, 2, 3]
    first, _, last = (found[job_id] for job_id in pictures)
    assert (first.behind, first.eta_seconds) == ("me", 600)
    assert last.eta_seconds == pytest.approx(608, abs=2)
    assert last.message == "Waiting: 3rd in the queue, behind the training 'me' (about 10 min)"


async def test_the_next_training_knows_how_long_the_pictures_and_the_one_before_it_take(
    sessions: Sessions, settings: Settings
) -> None:
    await done(sessions, Kind.IMAGE, 8)
    await done(sessions, Kind.TRAINING, 50)  # 100 steps
    await started(sessions, "b", Kind.TRAINING)
    training, picture = await add(sessions, Kind.TRAINING, seconds_ago=5), await add(sessions, seconds_ago=1)

    async with sessions() as session:
        found = await standing(session, settings)

    assert (found[picture].position, found[training].position) == (1, 2)
    assert found[training].eta_seconds == pytest.approx(58, abs=3)


@pytest.mark.parametrize("policy", ["wait", "share"])
async def test_it_is_the_order_in_which_they_are_claimed(sessions: Sessions, settings: Settings, policy: str) -> None:
    kinds = [Kind.TRAINING, Kind.IMAGE, Kind.IMAGE, Kind.TRAINING, Kind.IMAGE]
    waiting = [await add(sessions, kind, seconds_ago=50 - n, affinity="xy"[n % 2]) for n, kind in enumerate(kinds)]
    async with sessions() as session:
        found = await standing(session, with_values(settings, masuka_gpu_policy=policy))

    claimed = [await claim(sessions, str(n)) for n in range(len(kinds))]

    assert sorted(waiting, key=lambda job_id: found[job_id].position) == claimed


async def test_five_hundred_that_wait_cost_as_many_queries_as_one(sessions: Sessions, settings: Settings) -> None:
    assert await _queries(sessions, settings, 1) == await _queries(sessions, settings, 499)


async def _queries(sessions: Sessions, settings: Settings, more: int) -> int:
    async with sessions.begin() as session:
        session.add_all([Job.new(Kind.IMAGE) for _ in range(more)])
    asked: list[str] = []
    async with sessions() as session:
        engine = session.get_bind()

        def ask(*args: object) -> None:
            asked.append(str(args[2]))

        event.listen(engine, "before_cursor_execute", ask)
        found: dict[UUID, object] = dict(await standing(session, settings))
        event.remove(engine, "before_cursor_execute", ask)
    assert len(found) >= more
    return len(asked)
