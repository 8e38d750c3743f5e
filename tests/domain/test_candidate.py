"""Which LoRAs of training checkpoints stay, and what their loss is."""

import itertools

import pytest

from api.domain.candidate import excess, loss_at, shown_name
from api.domain.checkpoint import LOSS_STEPS


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
    assert excess(steps, most) == gone


def test_whatever_comes_the_first_and_the_newest_stay_and_no_gap_is_large() -> None:
    kept: list[int] = []
    for step in range(250, 20_250, 250):
        kept.append(step)
        gone = excess(kept, 10)
        kept = [each for each in kept if each not in gone]
        assert (kept[0], kept[-1]) == (250, step)
    gaps = [after - before for before, after in itertools.pairwise(kept)]
    assert len(kept) == 10
    assert max(gaps) <= 2 * 20_000 / 9


def test_the_loss_is_that_of_the_steps_before() -> None:
    losses = {step: float(step) for step in range(1, 201)}
    assert loss_at(losses, 100) == sum(range(101 - LOSS_STEPS, 101)) / LOSS_STEPS
    assert loss_at({1: 0.5, 3: 0.3, 4: 9.0}, 3) == pytest.approx(0.4)
    assert loss_at({1: 0.5}, 1 + LOSS_STEPS) is None


def test_a_name_has_its_step_however_long_it_is() -> None:
    assert shown_name("ohwx", 500) == "ohwx step 500"
    assert shown_name("x" * 100, 500).endswith("x step 500")
    assert len(shown_name("x" * 100, 100_000)) <= 100
