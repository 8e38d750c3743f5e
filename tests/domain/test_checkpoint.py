"""Which training checkpoints are kept, and for how long."""

from datetime import UTC, datetime, timedelta

import pytest

from api.domain.checkpoint import is_outlived, superfluous

NOW = datetime(2026, 11, 22, tzinfo=UTC)
WEEK = timedelta(days=7)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("stored", "kept", "gone"),
    [
        ([], 5, []),
        ([10, 20, 30], 5, []),
        ([30, 10, 20], 2, [10]),
        ([10, 20, 30], 1, [10]),
        ([10, 20, 30, 40], 3, [10]),
    ],
)
def test_the_newest_stay_and_never_fewer_than_two(stored: list[int], kept: int, gone: list[int]) -> None:
    assert superfluous(stored, kept) == gone


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_what_may_be_retried_is_kept_for_its_time(status: str) -> None:
    assert not is_outlived(status, NOW - WEEK + SECOND, now=NOW, keep=WEEK)
    assert is_outlived(status, NOW - WEEK, now=NOW, keep=WEEK)


@pytest.mark.parametrize("status", ["pending", "training"])
def test_a_session_that_waits_or_runs_keeps_everything(status: str) -> None:
    assert not is_outlived(status, None, now=NOW, keep=timedelta(0))


def test_a_completed_session_needs_nothing_more() -> None:
    assert is_outlived("completed", NOW, now=NOW, keep=WEEK)
