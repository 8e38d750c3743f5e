"""Which training checkpoints are kept, and for how long."""

from datetime import UTC, datetime, timedelta

import pytest

from api.domain.checkpoint import Rule, is_outlived, prized, smoothed, superfluous

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
    assert superfluous(dict.fromkeys(stored), Rule(kept)) == gone


LOSSES = {10: 0.9, 20: 0.4, 30: 0.6, 40: 0.5, 50: 0.8, 60: None, 70: 0.7}


@pytest.mark.parametrize(
    ("rule", "gone"),
    [
        (Rule(2), [10, 20, 30, 40, 50]),
        (Rule(2, best=1), [10, 30, 40, 50]),
        (Rule(2, best=3), [10, 50]),
        (Rule(2, every=30), [10, 20, 40, 50]),
        (Rule(2, every=20, best=1), [10, 30, 50]),
        (Rule(3, every=1), []),
    ],
)
def test_the_best_and_every_so_many_steps_stay_beside_the_newest(rule: Rule, gone: list[int]) -> None:
    assert superfluous(LOSSES, rule) == gone
    assert len(LOSSES) - len(gone) <= rule.most(70, 10)


def test_of_equal_losses_the_later_is_the_better() -> None:
    assert prized({10: 0.5, 20: 0.5, 30: 0.9}, Rule(1, best=1)) == {20}


def test_the_loss_is_a_mean_at_first_and_then_forgets_what_is_long_ago() -> None:
    mean = None
    for number, loss in enumerate([1.0, 2.0, 6.0]):
        mean = smoothed(mean, number, loss)
    assert mean == pytest.approx(3.0)
    for number in range(3, 503):
        mean = smoothed(mean, number, 0.5)
    assert mean == pytest.approx(0.5, abs=1e-3)


def outlived(status: str, ended_at: datetime | None, *, keep: timedelta = WEEK) -> bool:
    return is_outlived(status, ended_at, now=NOW, keep=keep, keep_completed=2 * WEEK)


@pytest.mark.parametrize("status", ["failed", "cancelled"])
def test_what_may_be_retried_is_kept_for_its_time(status: str) -> None:
    assert not outlived(status, NOW - WEEK + SECOND)
    assert outlived(status, NOW - WEEK)


@pytest.mark.parametrize("status", ["pending", "training"])
def test_a_session_that_waits_or_runs_keeps_everything(status: str) -> None:
    assert not outlived(status, None, keep=timedelta(0))


def test_what_may_be_extended_is_kept_for_its_time() -> None:
    assert not outlived("completed", NOW - 2 * WEEK + SECOND)
    assert outlived("completed", NOW - 2 * WEEK)
