"""The figures themselves: what is said of numbers that are known."""

import pytest

from tests.bench.figures import Fact, Series, compared
from tests.bench.full_queue import gaps
from tests.bench.machine import Times, stolen_percent, times
from tests.bench.soak import Look, growth
from tests.bench.stand import Event
from tests.bench.switching import switches


def test_quantiles_are_values_that_were_measured() -> None:
    series = Series("n", "ms", tuple(float(n) for n in range(100, 0, -1)))

    assert (series.quantile(0.5), series.quantile(0.95), series.quantile(0.99), series.quantile(1.0)) == (
        50.0,
        95.0,
        99.0,
        100.0,
    )
    assert Series("one", "ms", (7.0,)).quantile(0.5) == 7.0
    with pytest.raises(ValueError, match="nothing was measured of none"):
        Series("none", "ms", ()).quantile(0.5)


@pytest.mark.parametrize(("n", "told"), [(999, False), (1000, True)])
def test_the_99th_percentile_is_told_of_a_thousand_values_or_more(n: int, told: bool) -> None:
    assert ("p99" in Series("n", "ms", (1.0,) * n).figures()) is told


def test_a_figure_has_three_digits() -> None:
    assert Series("n", "ms", (1234.5678,)).figures() == {"unit": "ms", "n": 1, "p50": 1230, "p95": 1230, "max": 1230}


@pytest.mark.parametrize(
    ("fact", "met"),
    [
        (Fact("a", "ms", 10, at_most=10), True),
        (Fact("a", "ms", 10.1, at_most=10), False),
        (Fact("a", "x", 0.97, at_least=0.97), True),
        (Fact("a", "x", 0.96, at_least=0.97), False),
        (Fact("a", "x", 0.96), None),
    ],
)
def test_a_target_is_met_or_missed(fact: Fact, met: bool | None) -> None:
    assert fact.met is met


def test_two_series_are_compared_at_the_same_shares() -> None:
    ours, theirs = Series("ours", "ms", (20.0, 30.0)), Series("theirs", "ms", (10.0, 15.0))

    more, tail, ratio = compared("above", ours, theirs, p50=10, p95=10)

    assert (more.value, more.met) == (10.0, True)
    assert (tail.value, tail.met) == (15.0, False)
    assert ratio.value == 2.0


def test_the_idle_time_is_that_between_an_end_and_the_next_begin() -> None:
    def event(at: float, name: str) -> Event:
        return Event(at, name, "p", None, None)

    told = [event(1.0, "execution_start"), event(2.0, "execution_success")]
    told += [event(2.5, "execution_start"), event(3.0, "execution_success")]
    told += [event(3.001, "execution_start"), event(4.0, "execution_success")]

    assert gaps(told) == pytest.approx([500.0, 1.0])


def test_switches_are_counted_with_the_first() -> None:
    assert switches(["a", "a", "b", "a"]) == 3


def test_what_the_host_took_is_a_share_of_all_cores() -> None:
    assert stolen_percent(Times(whole=100.0, stolen=10.0), Times(whole=300.0, stolen=60.0)) == 25.0
    assert stolen_percent(Times(1.0, 0.0), Times(1.0, 0.0)) == 0.0
    before = times()
    assert times().whole >= before.whole > times().stolen >= 0


def test_growth_is_the_last_third_against_the_second_and_the_first_may_warm_up() -> None:
    looks = [Look("api", megabytes, 10, 2, 4, 8) for megabytes in (10.0, 20.0, 100.0, 100.0, 109.0, 109.0)]
    leaking = [Look("api", 100.0, files, 2, 4, 8) for files in (10, 10, 10, 10, 12, 12)]

    flat, leak = ({fact.name: fact for fact in growth("api", each)} for each in (looks, leaking))

    assert (flat["api, memory, last third"].value, flat["api, memory, last third"].met) == (109.0, True)
    assert flat["api, memory, last third"].target == "at most 110"
    assert leak["api, files, last third"].target == "at most 11"
    assert (leak["api, files, last third"].value, leak["api, files, last third"].met) == (12, False)
    assert leak["api, tasks, last third"].met is True
