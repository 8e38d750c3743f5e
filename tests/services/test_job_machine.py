"""The life of a job against a model of it: whatever happens in whatever order, the rows say what the model says."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import pytest
import sqlalchemy as sa
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy.ext.asyncio import AsyncSession

from api.db import Sessions
from api.domain.job import TERMINAL, Kind, Queue
from api.domain.progress import Snapshot
from api.errors import ConflictError, EngineError
from api.models import Captioning, GeneratedAsset, Job, TrainingSession
from api.services import jobs
from api.services.jobs import Lease, LeaseLostError
from api.services.turns import Turn, next_pending
from api.settings import Settings
from tests.job_rows import Subject, add, assert_rows_sound, let_lease_run_out, open_sessions, read

T = TypeVar("T")
ERROR = EngineError("It broke.", code="broken")
JOBS = 4
"""So few that the same one is met again and again."""
EXAMPLES = {"sqlite": 25, "postgres": 12}
STEPS = 40
RETRIED = 1_000_000
"""The age of jobs created now begins here: those that `create` makes are older than whatever happens."""


@dataclass(frozen=True)
class Modelled:
    """One job as it should be."""

    kind: Kind
    priority: int
    affinity: str | None
    overdue: bool
    age: int
    """Order of creation."""
    max_attempts: int
    status: str = "pending"
    attempt: int = 1
    owner: str | None = None
    grants: int = 0
    """How often the lease was granted, renewed or let run out: what a judgement of it depends on."""
    wish: bool = False
    step: int = 0
    error: str | None = None
    superseded: bool = False
    ended_among: int = 0
    """How many jobs there were when it ended; 0 while it has not."""

    @property
    def is_training_that_ended(self) -> bool:
        """And had begun; or another job that has the GPU alone."""
        return self.kind.exclusive and self.grants > 0 and self.status in TERMINAL

    def was_there_when_ended(self, other: "Modelled") -> bool:
        return self.age < RETRIED + other.ended_among

    def ended(self, status: str, error: str | None = None) -> "Modelled":
        return replace(self, status=status, owner=None, error=error)

    def without_result(self, give_up: str | None) -> "Modelled":
        """The attempt came to nothing; `give_up` is the code if no further one is to be had, None for a release."""
        if self.wish:
            return self.ended("cancelled")
        if give_up is None:
            return replace(self, status="pending", owner=None)
        if self.attempt < self.max_attempts:
            return replace(self, status="pending", owner=None, attempt=self.attempt + 1)
        return self.ended("failed", give_up)


Deed = Callable[[AsyncSession, Lease], Awaitable[object]]
Effect = Callable[[Modelled], Modelled]

DEEDS: dict[str, tuple[Deed, Effect]] = {
    "save progress": (
        partial(jobs.save_progress, snapshot=Snapshot("training", step=7, progress=70)),
        lambda job: replace(job, step=7),
    ),
    "complete": (jobs.complete, lambda job: job.ended("completed")),
    "cancel": (jobs.cancel, lambda job: job.ended("cancelled")),
    "fail": (partial(jobs.fail, error=ERROR), lambda job: job.ended("failed", "broken")),
    "fail retryably": (partial(jobs.fail, error=ERROR, retryable=True), lambda job: job.without_result("broken")),
    "release": (jobs.release, lambda job: job.without_result(None)),
}
"""What a worker does with its lease, and what that makes of the job if the lease is held."""


class JobMachine(RuleBasedStateMachine):
    """Drives `services.jobs`; subclasses bring the database."""

    runner: asyncio.Runner
    sessions: Sessions
    examples: int

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[UUID, Modelled] = {}
        self.leases: list[Lease] = []
        """Every one that was ever given."""
        self.judged: list[tuple[Job, int]] = []
        """Running jobs as reconcile saw them, with what their lease depended on then."""
        self.run(self._empty())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def do(self, deed: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any) -> T:
        """In a transaction of its own."""

        async def in_transaction() -> T:
            async with self.sessions.begin() as session:
                return await deed(session, *args, **kwargs)

        return self.run(in_transaction())

    async def _empty(self) -> None:
        async with self.sessions.begin() as session:
            for table in (Job, GeneratedAsset, TrainingSession, Captioning):
                await session.execute(sa.delete(table))

    def with_status(self, *statuses: str) -> list[UUID]:
        return [job_id for job_id, job in self.model.items() if job.status in statuses]

    def lost_leases(self) -> list[Lease]:
        return [lease for lease in self.leases if self.model[lease.job_id].owner != lease.owner]

    # ---- create and claim --------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.model) < JOBS)
    @rule(
        kind=st.sampled_from([kind for kind in Kind if kind.queue is Queue.GPU]),
        priority=st.integers(0, 1),
        affinity=st.sampled_from([None, "x", "y"]),
        overdue=st.booleans(),
        max_attempts=st.integers(1, 3),
    )
    def create(self, kind: Kind, priority: int, affinity: str | None, overdue: bool, max_attempts: int) -> None:
        age = len(self.model)
        seconds_ago = (5000 if overdue else 30) - age / 1000
        about: dict[str, Any] = {"affinity": affinity, "priority": priority, "max_attempts": max_attempts}
        job_id = self.run(add(self.sessions, kind, seconds_ago=seconds_ago, **about))
        self.model[job_id] = Modelled(kind, priority, affinity, overdue, age, max_attempts)

    @precondition(lambda self: self.with_status("pending"))
    @rule(affinity=st.sampled_from([None, "x", "y"]))
    def claim(self, affinity: str | None) -> None:
        owner = f"worker {len(self.leases)}"
        found = self.do(next_pending, Queue.GPU, Turn(affinity))
        best = min(self.with_status("pending"), key=partial(self._rank, affinity))
        assert found is not None
        assert (found.id, found.kind) == (best, self.model[best].kind)
        assert self.do(jobs.claim, best, owner) is not None
        held = self.model[best]
        self.model[best] = replace(held, status="running", owner=owner, grants=held.grants + 1)
        self.leases.append(Lease(best, owner))

    def _rank(self, affinity: str | None, job_id: UUID) -> tuple[bool, int, bool, int, bool, int]:
        job, is_training = self.model[job_id], self.model[job_id].kind.exclusive
        interrupted = is_training and job.grants > 0
        trainings = [other for other in self.model.values() if other.is_training_that_ended]
        waited = not is_training and any(job.was_there_when_ended(training) for training in trainings)
        switch = 0 if affinity is None or job.overdue else 1 if job.affinity == affinity else 2
        return (not interrupted, -job.priority, not waited, switch, not job.overdue, job.age)

    # ---- what a holder does, and one that only thinks it is ----------------------------------------------------------

    @precondition(lambda self: self.with_status("running"))
    @rule(data=st.data(), deed=st.sampled_from(sorted(DEEDS)))
    def the_holder_acts(self, data: st.DataObject, deed: str) -> None:
        job_id = data.draw(st.sampled_from(self.with_status("running")))
        job, (act, effect) = self.model[job_id], DEEDS[deed]
        self.do(act, lease=Lease(job_id, job.owner or ""))
        self.model[job_id] = effect(job)

    @precondition(lambda self: self.lost_leases())
    @rule(data=st.data(), deed=st.sampled_from(sorted(DEEDS)))
    def one_that_lost_its_lease_acts(self, data: st.DataObject, deed: str) -> None:
        lease = data.draw(st.sampled_from(self.lost_leases()))
        with pytest.raises(LeaseLostError):
            self.do(DEEDS[deed][0], lease=lease)

    # ---- leases ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.leases)
    @rule()
    def all_renew(self) -> None:
        renewed = self.do(jobs.renew, [lease.owner for lease in self.leases])
        held = {self.model[job_id].owner: self.model[job_id].wish for job_id in self.with_status("running")}
        assert {owner: wish is not None for owner, wish in renewed.items()} == held
        self._granted(*self.with_status("running"))

    @precondition(lambda self: self.with_status("running"))
    @rule(data=st.data())
    def a_lease_runs_out(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(self.with_status("running")))
        self.run(let_lease_run_out(self.sessions, job_id))
        self._granted(job_id)

    def _granted(self, *job_ids: UUID) -> None:
        for job_id in job_ids:
            self.model[job_id] = replace(self.model[job_id], grants=self.model[job_id].grants + 1)

    @precondition(lambda self: self.with_status("running"))
    @rule(data=st.data())
    def a_lost_worker_is_judged(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(self.with_status("running")))
        self.judged.append((self.run(read(self.sessions, job_id)), self.model[job_id].grants))

    @precondition(lambda self: self.judged)
    @rule(data=st.data())
    def a_lease_is_ended_as_judged(self, data: st.DataObject) -> None:
        """At once or much later, when the judgement may no longer be true."""
        seen, grants = data.draw(st.sampled_from(self.judged[-3:]))
        job = self.model[seen.id]
        changed = self.do(jobs.expire, seen)
        if job.status == "running" and job.owner == seen.lease_owner and job.grants == grants:
            assert changed is not None
            self.model[seen.id] = job.without_result("worker_lost")
        else:
            assert changed is None

    # ---- what the owner asks for -------------------------------------------------------------------------------------

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def the_owner_cancels(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(list(self.model)))
        job = self.model[job_id]
        if job.status in ("completed", "failed"):
            with pytest.raises(ConflictError):
                self.do(jobs.request_cancel, job_id)
            return
        answer = self.do(jobs.request_cancel, job_id)
        if job.status != "cancelled":
            self.model[job_id] = replace(job, wish=True, status="cancelled" if job.status == "pending" else job.status)
        assert answer.status == self.model[job_id].status

    @rule()
    def the_owner_cancels_all_pictures(self) -> None:
        """Those that have ended are among them; a job that was retried has no picture any more."""
        pictures = {key: job for key, job in self.model.items() if job.kind is Kind.IMAGE and not job.superseded}
        changed = self.do(jobs.request_cancel_of, list(pictures))
        alive = {key: job for key, job in pictures.items() if job.status in ("pending", "running")}
        for job_id, job in alive.items():
            status = "cancelled" if job.status == "pending" else job.status
            self.model[job_id] = replace(job, wish=True, status=status)
        assert {job.id: job.status for job in changed} == {key: self.model[key].status for key in alive}

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def the_owner_retries(self, data: st.DataObject) -> None:
        job_id = data.draw(st.sampled_from(list(self.model)))
        old = self.model[job_id]
        if old.status not in ("failed", "cancelled") or old.superseded:
            with pytest.raises(ConflictError):
                self.do(jobs.retry, job_id)
            return
        new = self.do(jobs.retry, job_id)
        self.model[job_id] = replace(old, superseded=True)
        age = RETRIED + len(self.model)
        self.model[new.id] = Modelled(old.kind, old.priority, old.affinity, overdue=False, age=age, max_attempts=3)

    # ---- always --

    @invariant()
    def rows_say_what_the_model_says(self) -> None:
        for job_id, job in self.model.items():
            if job.status in TERMINAL and not job.ended_among:
                self.model[job_id] = replace(job, ended_among=len(self.model))
        self.run(self._compare())

    async def _compare(self) -> None:
        async with self.sessions() as session:
            rows = {job.id: job for job in (await session.scalars(sa.select(Job))).all()}
            trainings = (await session.scalars(sa.select(TrainingSession))).all()
            assets = (await session.scalars(sa.select(GeneratedAsset))).all()
            captionings = (await session.scalars(sa.select(Captioning))).all()
        subjects: dict[UUID | None, Subject] = {row.task_id: row for row in trainings}
        subjects |= {row.task_id: row for row in assets}
        subjects |= {row.task_id: row for row in captionings}
        assert rows.keys() == self.model.keys()
        assert subjects.keys() == {job_id for job_id, job in self.model.items() if not job.superseded}
        for job_id, expected in self.model.items():
            row = rows[job_id]
            assert (row.status, row.attempt, row.lease_owner) == (expected.status, expected.attempt, expected.owner)
            assert (row.cancel_requested_at is not None, row.error_code) == (expected.wish, expected.error)
            assert row.progress.get("step", 0) == expected.step
            assert_rows_sound(row, subjects.get(job_id))


@pytest.fixture
def machine(settings: Settings, database_url: str) -> Iterator[type[JobMachine]]:
    with asyncio.Runner() as loop:
        opening = open_sessions(settings, database_url)
        opened = loop.run(opening.__aenter__())

        class Machine(JobMachine):
            runner, sessions = loop, opened
            examples = EXAMPLES["postgres" if database_url else "sqlite"]

        yield Machine
        loop.run(opening.__aexit__(None, None, None))


@pytest.mark.timeout(180)
def test_whatever_happens_in_whatever_order_the_rows_say_what_the_model_says(machine: type[JobMachine]) -> None:
    run_state_machine_as_test(
        machine, settings=hypothesis_settings(max_examples=machine.examples, stateful_step_count=STEPS)
    )
