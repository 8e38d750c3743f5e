"""The pure life of a job: which change may follow which, and what a failure leads to."""

from hypothesis import given
from hypothesis import strategies as st

from api.domain.job import (
    NEXT,
    TERMINAL,
    GiveUp,
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
    assert [shown(kind, Status.RUNNING) for kind in Kind] == ["training", "generating", "importing", "captioning"]
    assert shown(Kind.IMAGE, Status.COMPLETED) == "completed"


def test_only_what_needs_the_gpu_waits_for_it() -> None:
    assert {kind for kind in Kind if kind.queue is Queue.GPU} == {Kind.TRAINING, Kind.IMAGE, Kind.CAPTION}
