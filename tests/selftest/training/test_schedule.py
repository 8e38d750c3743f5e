"""The pace of a training."""

from itertools import pairwise

import pytest

from api.selftest.training.schedule import Plan

PLAN = Plan(seconds=100, learning_rate=1e-3, warm_up_steps=10, average_decay=0.999)


def test_the_rate_climbs_by_steps_and_falls_by_the_clock() -> None:
    climbing = [PLAN.rate(step, 0) for step in range(10)]
    falling = [PLAN.rate(1000, seconds) for seconds in range(0, 101, 10)]

    assert climbing == pytest.approx([1e-4 * (step + 1) for step in range(10)])
    assert falling[0] == pytest.approx(1e-3)
    assert all(later < earlier for earlier, later in pairwise(falling))
    assert falling[-1] == pytest.approx(1e-3 * PLAN.last_rate_share)


def test_a_step_that_starts_late_does_not_learn_faster_again() -> None:
    assert PLAN.rate(1000, 500) == PLAN.rate(1000, 100) == pytest.approx(2e-5)


def test_a_plan_without_time_has_a_rate_all_the_same() -> None:
    assert Plan(0, 1e-3, 10, 0.999).rate(10, 0) == pytest.approx(2e-5)


def test_the_average_forgets_its_beginning() -> None:
    assert PLAN.decay(0) < 0.2
    assert PLAN.decay(100_000) == 0.999
