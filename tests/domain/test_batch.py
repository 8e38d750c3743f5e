"""What many pictures are, taken together."""

from uuid import UUID

import pytest

from api.domain.batch import Member, counts_of, snapshot_of, status_of


@pytest.mark.parametrize(
    ("statuses", "whole"),
    [
        (["pending", "pending"], "pending"),
        (["pending", "generating"], "generating"),
        (["pending", "completed"], "generating"),
        (["generating", "failed"], "generating"),
        (["completed", "completed"], "completed"),
        (["completed", "failed", "cancelled"], "failed"),
        (["completed", "cancelled"], "cancelled"),
        ([], "completed"),
    ],
)
def test_the_whole_has_ended_when_all_have_and_shows_the_worst_end(statuses: list[str], whole: str) -> None:
    assert status_of(counts_of(statuses)) == whole


def test_every_status_is_counted_also_those_that_nobody_has() -> None:
    assert counts_of(["failed", "failed"]) == {
        "pending": 0,
        "generating": 0,
        "completed": 0,
        "failed": 2,
        "cancelled": 0,
    }


def _members(*states: tuple[str, float]) -> list[Member]:
    return [Member(UUID(int=n), UUID(int=n + 100), status, progress) for n, (status, progress) in enumerate(states)]


def test_a_snapshot_counts_pictures_as_steps_and_half_pictures_as_progress() -> None:
    found = snapshot_of(_members(("completed", 100), ("failed", 100), ("generating", 40), ("pending", 0)))
    assert (found.status, found.step, found.total_steps, found.progress) == ("generating", 2, 4, 60.0)
    assert (found.stage, found.message) == ("drawing", "2 of 4 pictures done, 1 failed")


def test_a_batch_whose_pictures_are_gone_is_done() -> None:
    found = snapshot_of([])
    assert (found.status, found.progress, found.total_steps) == ("completed", 100.0, 0)
