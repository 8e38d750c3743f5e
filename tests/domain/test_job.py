"""The pure life of a job: which change may follow which, what a failure leads to, who may use the GPU."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.domain.job import (
    NEXT,
    TERMINAL,
    GiveUp,
    GpuGate,
    Kind,
    Queue,
    Requeue,
    Status,
    after_loss,
    after_retryable,
    shown,
)


def test_what_has_ended_never_changes_and_what_has_not_can_end() -> None:
    assert {status for status in Status if not NEXT[status]} == TERMINAL
    assert all(Status.CANCELLED in NEXT[status] for status in set(Status) - TERMINAL)


def test_only_what_runs_can_complete_or_fail() -> None:
    for end in (Status.COMPLETED, Status.FAILED):
        assert [status for status in Status if end in NEXT[status]] == [Status.RUNNING]


@given(st.integers(1, 10), st.integers(1, 10))
def test_a_job_is_tried_as_often_as_it_may_and_never_more(attempt: int, max_attempts: int) -> None:
    decision = after_retryable(attempt, max_attempts, code="engine_died")

    assert decision == (Requeue(attempt + 1) if attempt < max_attempts else GiveUp("engine_died"))


def test_a_job_that_outlived_too_many_workers_is_given_up_as_such() -> None:
    assert after_loss(3, 3) == GiveUp("worker_lost")
    assert after_loss(1, 3) == Requeue(2)


def test_a_client_reads_what_a_running_job_does() -> None:
    assert [shown(kind, Status.RUNNING) for kind in Kind] == ["training", "generating"]
    assert shown(Kind.IMAGE, Status.COMPLETED) == "completed"


def test_every_kind_has_a_queue() -> None:
    assert {kind.queue for kind in Kind} == {Queue.GPU}


# ---- the GPU -----------------------------------------------------------------------------------------------------


def test_two_pictures_share_the_gpu_and_a_third_waits() -> None:
    gate = GpuGate()
    gate.enter(Kind.IMAGE)
    gate.enter(Kind.IMAGE)

    assert not gate.admits(Kind.IMAGE)
    gate.leave(Kind.IMAGE)
    assert gate.admits(Kind.IMAGE)


def test_a_training_is_alone() -> None:
    gate = GpuGate()
    gate.enter(Kind.IMAGE)
    assert not gate.admits(Kind.TRAINING)
    gate.leave(Kind.IMAGE)

    gate.enter(Kind.TRAINING)

    assert not any(gate.admits(kind) for kind in Kind)
    gate.leave(Kind.TRAINING)
    assert all(gate.admits(kind) for kind in Kind)


def test_entering_without_being_admitted_is_a_bug() -> None:
    gate = GpuGate()
    gate.enter(Kind.TRAINING)

    with pytest.raises(RuntimeError, match="does not admit"):
        gate.enter(Kind.IMAGE)


@given(st.lists(st.tuples(st.sampled_from(Kind), st.booleans())))
def test_the_gpu_never_holds_more_than_it_may(steps: list[tuple[Kind, bool]]) -> None:
    gate, inside = GpuGate(), list[Kind]()
    for kind, entering in steps:
        if entering and gate.admits(kind):
            gate.enter(kind)
            inside.append(kind)
        elif not entering and kind in inside:
            gate.leave(kind)
            inside.remove(kind)
        assert inside == [Kind.TRAINING] or (Kind.TRAINING not in inside and len(inside) <= 2)
