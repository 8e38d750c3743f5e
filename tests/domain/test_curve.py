"""The course of a training, made short without losing what matters."""

from hypothesis import given
from hypothesis import strategies as st

from api.domain.curve import CHUNK_STEPS, Point, chunk_of, smoothed, thinned

losses = st.lists(st.none() | st.floats(0, 100, allow_nan=False), max_size=300)


def points(values: list[float | None]) -> list[Point]:
    return [Point(step, float(step), loss) for step, loss in enumerate(values, start=1)]


@given(losses, st.integers(2, 50))
def test_thinned_points_are_few_and_real_with_both_ends_and_every_peak(values: list[float | None], most: int) -> None:
    given_points = points(values)
    thin = thinned(given_points, most)
    assert len(thin) <= max(most, 0)
    assert [point for point in given_points if point in thin] == thin
    if given_points:
        assert (thin[0], thin[-1]) == (given_points[0], given_points[-1])
    told = [point.loss for point in given_points if point.loss is not None]
    if told and most >= 4:
        shown = [point.loss for point in thin if point.loss is not None]
        assert (min(shown), max(shown)) == (min(told), max(told))


def test_a_short_course_is_shown_as_it_is() -> None:
    course = points([1.0, 2.0, 3.0])
    assert thinned(course, 3) == course


@given(st.lists(st.floats(0, 10, allow_nan=False), min_size=1, max_size=100))
def test_the_smoothed_curve_stays_between_the_extremes_and_begins_where_the_loss_does(values: list[float]) -> None:
    curve = smoothed(points(list(values)))
    assert curve[0] == (1, values[0])
    assert all(min(values) - 1e-9 <= loss <= max(values) + 1e-9 for _, loss in curve)


def test_steps_that_told_no_loss_are_no_zeros_of_the_curve() -> None:
    assert smoothed(points([None, 4.0, None, 4.0])) == [(2, 4.0), (4, 4.0)]


def test_a_chunk_has_a_fixed_range_of_steps() -> None:
    assert [chunk_of(step) for step in (0, 1, CHUNK_STEPS, CHUNK_STEPS + 1)] == [0, 0, 0, 1]
