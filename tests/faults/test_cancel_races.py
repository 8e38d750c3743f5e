"""A thousand cancels against start, finish and each other: the cancelled job stops, and only that one."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
import sqlalchemy as sa
from sqlmodel import col

from api.domain.job import TERMINAL, Kind, Queue
from api.errors import ConflictError
from api.models import Job
from api.resources import Resources, open_resources
from api.services import jobs
from api.settings import Settings
from api.tasks.attempt import Attempt
from api.tasks.dispatch import Dispatcher
from tests.job_rows import add, assert_sound, nothing_waits
from tests.tasks.stage import nothing_to_record, on_duty
from tests.waiting import until_async

pytestmark = pytest.mark.timeout(600)
RACES = 1000
AT_ONCE = 20
SPARED = 0.3
"""So many of the jobs are not cancelled, and must not notice."""


@pytest.fixture
async def resources(settings: Settings, valkey_url: str) -> AsyncIterator[Resources]:
    async with open_resources(settings, valkey_url) as opened:
        yield opened


class Arena:
    """Jobs that take next to no time, and cancels that come at any moment of it."""

    def __init__(self, resources: Resources, seed: int) -> None:
        self.resources = resources
        self.chance = random.Random(seed)
        self.started: Counter[UUID] = Counter()
        self.answers: dict[UUID, list[str]] = {}
        """What each asked-for cancel was answered: the job's status then, or `refused`."""
        self.fates: dict[UUID, str] = {}
        self.cancels: list[asyncio.Task[None]] = []

    def fate(self, job_id: UUID) -> str:
        """The moment at which the job is cancelled, or `spared`; drawn when first asked: a job may begin at once."""
        if job_id not in self.fates:
            spared = self.chance.random() < SPARED
            self.fates[job_id] = "spared" if spared else self.chance.choice(("pending", "start", "running", "finish"))
        return self.fates[job_id]

    async def run(self, attempt: Attempt) -> None:
        """The runner: the moments of a job at which a cancel may meet it."""
        self.started[attempt.job_id] += 1
        self._at("start", attempt.job_id)
        if self.fate(attempt.job_id) == "running":
            self._cancel(attempt.job_id)
            await asyncio.Event().wait()  # only the cancel ends it
        await asyncio.sleep(self.chance.uniform(0, 0.004))
        self._at("finish", attempt.job_id)
        await attempt.complete(nothing_to_record)

    def _at(self, moment: str, job_id: UUID) -> None:
        if self.fate(job_id) == moment:
            self._cancel(job_id)

    def _cancel(self, job_id: UUID) -> None:
        """Once or several times at once."""
        for _ in range(self.chance.choice((1, 1, 2, 3))):
            self.cancels.append(asyncio.create_task(self._ask(job_id)))

    async def _ask(self, job_id: UUID) -> None:
        """As the route does."""
        await asyncio.sleep(self.chance.choice((0, 0, self.chance.uniform(0, 0.01))))
        try:
            async with self.resources.sessions.begin() as session:
                answer = (await jobs.request_cancel(session, job_id)).status
            await self.resources.queue.announce_cancel(job_id)
        except ConflictError:
            answer = "refused"
        self.answers.setdefault(job_id, []).append(answer)

    async def race(self) -> None:
        """Some jobs at once, announced together."""
        job_ids = [await add(self.resources.sessions) for _ in range(AT_ONCE)]
        await self.resources.queue.ring(Queue.GPU)
        for job_id in job_ids:
            self._at("pending", job_id)


async def test_a_cancelled_job_stops_and_only_that_one(resources: Resources) -> None:
    arena = Arena(resources, seed=7)
    async with on_duty(Dispatcher(resources, Queue.GPU, {Kind.IMAGE: arena.run})):
        for _ in range(RACES // AT_ONCE):
            await arena.race()
            await until_async(lambda: nothing_waits(resources.sessions), 60)
        await asyncio.gather(*arena.cancels)
    found = await all_jobs(resources)

    assert len(found) == RACES
    assert {job.status_enum for job in found} <= TERMINAL
    for job in found:
        assert job.attempt == 1
        if arena.fate(job.id) == "spared":
            assert (job.status, arena.started[job.id]) == ("completed", 1)
        else:
            assert_honest(job, arena.answers[job.id], arena.started[job.id])
            assert job.status == "cancelled" or arena.fate(job.id) != "running"
    for job in arena.chance.sample(found, 20):
        await assert_sound(resources.sessions, job.id)
    # Every kind of race was run.
    ends = Counter((arena.fate(job.id), job.status) for job in found)
    assert ends["pending", "cancelled"] > 50
    assert ends["running", "cancelled"] > 50
    assert ends["start", "cancelled"] + ends["start", "completed"] > 50
    assert ends["finish", "cancelled"] + ends["finish", "completed"] > 50


def assert_honest(job: Job, answers: list[str], started: int) -> None:
    """What the cancels were answered is what became of the job."""
    assert started <= 1
    if "cancelled" in answers:
        assert job.status == "cancelled"
    if "refused" in answers:
        assert job.status == "completed"
    if job.started_at is None:
        assert started == 0  # cancelled while it waited: it never began
    if job.status == "completed":
        assert started == 1


async def all_jobs(resources: Resources) -> list[Job]:
    async with resources.sessions() as session:
        return list((await session.scalars(sa.select(Job).order_by(col(Job.created_at)))).all())
