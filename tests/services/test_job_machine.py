"""The life of a job against a model of it: whatever happens in whatever order, the rows say what the model says."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import pytest
import sqlalchemy as sa
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule, run_state_machine_as_test

from api.db import Sessions
from api.domain.job import Kind, Queue
from api.domain.progress import Snapshot
from api.errors import ConflictError, EngineError
from api.models import GeneratedAsset, Job, TrainingSession
from api.services import jobs
from api.services.jobs import Lease, LeaseLostError
from api.settings import Settings
from tests.job_rows import add, assert_sound, let_lease_run_out, open_sessions, read, subject_of

ERROR = EngineError("It broke.", code="broken")
TERMINAL = {"completed", "failed", "cancelled"}


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


class JobMachine(RuleBasedStateMachine):
    """Drives `services.jobs`; subclasses bring the database."""

    runner: asyncio.Runner
    sessions: Sessions
    created = Bundle("created")
    leases = Bundle("leases")
    judged = Bundle("judged")

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[UUID, Modelled] = {}
        self.owners = 0
        self.run(self._empty())

    def run(self, work: Any) -> Any:
        return self.runner.run(work)

    async def _empty(self) -> None:
        async with self.sessions.begin() as session:
            for table in (Job, GeneratedAsset, TrainingSession):
                await session.execute(sa.delete(table))

    async def _do(self, deed: Any, *args: Any, **kwargs: Any) -> Any:
        async with self.sessions.begin() as session:
            return await deed(session, *args, **kwargs)

    # ---- rules --

    @rule(
        target=created,
        kind=st.sampled_from(Kind),
        priority=st.integers(0, 1),
        affinity=st.sampled_from([None, "x", "y"]),
        overdue=st.booleans(),
        max_attempts=st.integers(1, 3),
    )
    def create(self, kind: Kind, priority: int, affinity: str | None, overdue: bool, max_attempts: int) -> UUID:
        age = len(self.model)
        seconds_ago = (5000 if overdue else 30) - age / 1000
        about = {"affinity": affinity, "priority": priority, "max_attempts": max_attempts}
        job_id: UUID = self.run(add(self.sessions, kind, seconds_ago=seconds_ago, **about))  # type: ignore[arg-type]
        self.model[job_id] = Modelled(kind, priority, affinity, overdue, age, max_attempts)
        return job_id

    @rule(
        target=leases, affinity=st.sampled_from([None, "x", "y"]), admitted=st.sampled_from([set(Kind), {Kind.IMAGE}])
    )
    def claim(self, affinity: str | None, admitted: set[Kind]) -> Any:
        self.owners += 1
        owner = f"worker {self.owners}"
        job = self.run(self._do(jobs.claim, Queue.GPU, owner, admits=admitted.__contains__, affinity=affinity))
        best = self._best(affinity)
        if best is None or self.model[best].kind not in admitted:
            assert job is None
            return multiple()
        assert job is not None
        assert job.id == best
        held = self.model[best]
        self.model[best] = replace(held, status="running", owner=owner, grants=held.grants + 1)
        return Lease(best, owner)

    def _best(self, affinity: str | None) -> UUID | None:
        def order(job_id: UUID) -> tuple[int, int, int, int]:
            job = self.model[job_id]
            rank = 0 if affinity is None or job.overdue else 1 if job.affinity == affinity else 2
            return (-job.priority, rank, 0 if job.overdue else 1, job.age)

        return min((job_id for job_id, job in self.model.items() if job.status == "pending"), key=order, default=None)

    @rule()
    def renew_all(self) -> None:
        owners = [f"worker {n}" for n in range(1, self.owners + 1)]
        renewed = self.run(self._do(jobs.renew, owners))
        held = {job.owner: job.wish for job in self.model.values() if job.status == "running"}
        assert {owner: wish is not None for owner, wish in renewed.items()} == held
        for job_id, job in self.model.items():
            if job.status == "running":
                self.model[job_id] = replace(job, grants=job.grants + 1)

    @rule(job_id=created)
    def time_passes(self, job_id: UUID) -> None:
        job = self.model[job_id]
        if job.status == "running":
            self.run(let_lease_run_out(self.sessions, job_id))
            self.model[job_id] = replace(job, grants=job.grants + 1)

    @rule(target=judged, job_id=created)
    def judge(self, job_id: UUID) -> tuple[Job, int]:
        return self.run(read(self.sessions, job_id)), self.model[job_id].grants

    @rule(judgement=judged)
    def expire(self, judgement: tuple[Job, int]) -> None:
        seen, grants = judgement
        job = self.model[seen.id]
        changed = self.run(self._do(jobs.expire, seen))
        if job.status == "running" and job.owner == seen.lease_owner and job.grants == grants:
            assert changed is not None
            self.model[seen.id] = job.without_result("worker_lost")
        else:
            assert changed is None

    @rule(job_id=created)
    def ask_to_cancel(self, job_id: UUID) -> None:
        job = self.model[job_id]
        if job.status in ("completed", "failed"):
            with pytest.raises(ConflictError):
                self.run(self._do(jobs.request_cancel, job_id))
            return
        answer = self.run(self._do(jobs.request_cancel, job_id))
        self.model[job_id] = replace(job, wish=True, status="cancelled" if job.status == "pending" else job.status)
        assert answer.status == self.model[job_id].status

    @rule(target=created, job_id=created)
    def retry(self, job_id: UUID) -> Any:
        old = self.model[job_id]
        if old.status not in ("failed", "cancelled") or old.superseded:
            with pytest.raises(ConflictError):
                self.run(self._do(jobs.retry, job_id))
            return multiple()
        new = self.run(self._do(jobs.retry, job_id))
        self.model[job_id] = replace(old, superseded=True)
        overdue, age = False, len(self.model) + 1_000_000  # created now: younger than all that `create` makes
        self.model[new.id] = Modelled(old.kind, old.priority, old.affinity, overdue, age, max_attempts=3)
        return new.id

    # ---- what a holder does, and one that only thinks it is ----------------------------------------------------------

    @rule(lease=leases, step=st.integers(1, 99))
    def save_progress(self, lease: Lease, step: int) -> None:
        if self._as_holder(jobs.save_progress, lease, Snapshot("training", step=step, progress=step)):
            self.model[lease.job_id] = replace(self.model[lease.job_id], step=step)

    @rule(lease=leases)
    def complete(self, lease: Lease) -> None:
        if self._as_holder(jobs.complete, lease):
            self.model[lease.job_id] = self.model[lease.job_id].ended("completed")

    @rule(lease=leases)
    def stop_as_wished(self, lease: Lease) -> None:
        if self.model[lease.job_id].wish and self._as_holder(jobs.cancel, lease):
            self.model[lease.job_id] = self.model[lease.job_id].ended("cancelled")

    @rule(lease=leases)
    def fail(self, lease: Lease) -> None:
        if self._as_holder(jobs.fail, lease, ERROR):
            self.model[lease.job_id] = self.model[lease.job_id].ended("failed", "broken")

    @rule(lease=leases)
    def fail_retryably(self, lease: Lease) -> None:
        if self._as_holder(jobs.fail, lease, ERROR, retryable=True):
            self.model[lease.job_id] = self.model[lease.job_id].without_result("broken")

    @rule(lease=leases)
    def release(self, lease: Lease) -> None:
        if self._as_holder(jobs.release, lease):
            self.model[lease.job_id] = self.model[lease.job_id].without_result(None)

    def _as_holder(self, deed: Any, lease: Lease, *args: Any, **kwargs: Any) -> bool:
        """Do it; whether the lease was held. One that was not must have been told so."""
        if self.model[lease.job_id].owner == lease.owner:
            self.run(self._do(deed, lease, *args, **kwargs))
            return True
        with pytest.raises(LeaseLostError):
            self.run(self._do(deed, lease, *args, **kwargs))
        return False

    # ---- always --

    @invariant()
    def rows_say_what_the_model_says(self) -> None:
        self.run(self._compare())

    async def _compare(self) -> None:
        async with self.sessions() as session:
            rows = {job.id: job for job in (await session.scalars(sa.select(Job))).all()}
        assert rows.keys() == self.model.keys()
        for job_id, expected in self.model.items():
            row = rows[job_id]
            assert (row.status, row.attempt, row.lease_owner) == (expected.status, expected.attempt, expected.owner)
            assert (row.cancel_requested_at is not None, row.error_code) == (expected.wish, expected.error)
            assert row.progress.get("step", 0) == expected.step
            assert (await subject_of(self.sessions, job_id) is None) == expected.superseded
            await assert_sound(self.sessions, job_id)


@pytest.fixture
def machine(settings: Settings, database_url: str) -> Iterator[type[JobMachine]]:
    with asyncio.Runner() as loop:
        opening = open_sessions(settings, database_url)
        opened = loop.run(opening.__aenter__())

        class Machine(JobMachine):
            runner, sessions = loop, opened

        yield Machine
        loop.run(opening.__aexit__(None, None, None))


@pytest.mark.timeout(180)
def test_whatever_happens_in_whatever_order_the_rows_say_what_the_model_says(machine: type[JobMachine]) -> None:
    run_state_machine_as_test(machine, settings=hypothesis_settings(max_examples=25, stateful_step_count=25))
