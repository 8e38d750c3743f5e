"""Which LoRAs of training checkpoints stay, and what their loss is."""

import itertools

import pytest

from api.domain.candidate import excess, loss_at, shown_name
from api.domain.checkpoint import LOSS_STEPS, Rule

NO_RULE = Rule(newest=0)


@pytest.mark.parametrize(
    ("steps", "most", "gone"),
    [
        ([], 3, []),
        ([250, 500, 750], 3, []),
        ([250, 500, 750, 1000], 3, [500]),
        ([1000, 500, 250, 750], 3, [500]),
        ([100, 200, 300, 1000], 3, [200]),  # where they are closest
        ([1, 2], 1, [1]),
        ([1, 2, 3], 1, [2, 1]),
    ],
)
def test_of_too_many_those_go_whose_neighbours_are_closest(steps: list[int], most: int, gone: list[int]) -> None:
    assert excess(dict.fromkeys(steps), most, NO_RULE) == gone


LOSSES = {10: 0.9, 20: 0.4, 30: 0.6, 40: 0.5, 50: 0.8, 60: None, 70: 0.7}


@pytest.mark.parametrize(
    ("most", "rule", "kept"),
    [
        (4, Rule(2), [10, 30, 60, 70]),
        (4, Rule(2, best=1), [10, 20, 60, 70]),
        (4, Rule(3, best=0), [10, 50, 60, 70]),
        (4, Rule(2, every=30), [10, 30, 60, 70]),
        (3, Rule(3, every=20, best=1), [10, 20, 70]),
        (3, Rule(2, best=2), [20, 40, 70]),  # the best before the first
        (2, Rule(7, best=3), [20, 70]),  # more than the rule may have: the newest is the last to go
        (1, Rule(7, best=3), [70]),
    ],
)
def test_what_the_rule_of_the_training_keeps_goes_last(most: int, rule: Rule, kept: list[int]) -> None:
    assert sorted(LOSSES.keys() - set(excess(LOSSES, most, rule))) == kept


def test_whatever_comes_the_best_so_far_stays_and_no_gap_is_large() -> None:
    losses: dict[int, float | None] = {}
    for step in range(250, 20_250, 250):
        losses[step] = abs(step - 7_750) / 1000
        lowest = min(losses, key=lambda each: losses[each] or 0.0)
        for each in excess(losses, 10, Rule(2, best=1)):
            del losses[each]
        assert {250, lowest, step} <= losses.keys()
    gaps = [after - before for before, after in itertools.pairwise(sorted(losses))]
    assert len(losses) == 10
    assert 7_750 in losses
    assert max(gaps) <= 2 * 20_000 / 8


def test_the_loss_is_that_of_the_steps_before() -> None:
    losses = {step: float(step) for step in range(1, 201)}
    assert loss_at(losses, 100) == sum(range(101 - LOSS_STEPS, 101)) / LOSS_STEPS
    assert loss_at({1: 0.5, 3: 0.3, 4: 9.0}, 3) == pytest.approx(0.4)
    assert loss_at({1: 0.5}, 1 + LOSS_STEPS) is None


def test_a_name_has_its_step_however_long_it_is() -> None:
    assert shown_name("ohwx", 500) == "ohwx step 500"
    assert shown_name("x" * 100, 500).endswith("x step 500")
    assert len(shown_name("x" * 100, 100_000)) <= 100
