"""Which pictures are nearly the same."""

from dataclasses import replace

from api.domain.measurement import Measurement, near_duplicates

ONE = Measurement(
    sharpness=(0.8, None), dark=10, middle=100, bright=200, layout=0, slopes=(1 << 63) | 5, colours=bytes([128] * 32)
)


def changed(*, layout_bits: int = 0, slope_bits: int = 0, colour: int = 0) -> Measurement:
    colours = bytes([128 + colour, *ONE.colours[1:]])
    return replace(
        ONE, layout=(1 << layout_bits) - 1, slopes=ONE.slopes ^ ((1 << slope_bits) - 1), colours=colours, middle=7
    )


def test_a_measurement_survives_json() -> None:
    assert Measurement.from_json(ONE.to_json()) == ONE


def test_the_sharpness_is_that_of_the_nearest_size() -> None:
    assert [ONE.sharpness_at(resolution) for resolution in (64, 512, 704, 1024, 2048)] == [0.8, 0.8, 0.8, None, None]


def test_pictures_are_alike_within_both_hashes_and_the_colours() -> None:
    assert near_duplicates([ONE, changed(layout_bits=8, slope_bits=8, colour=14)]) == {1: 0}
    for other in (changed(layout_bits=9), changed(slope_bits=9), changed(colour=15), changed(colour=-15)):
        assert near_duplicates([ONE, other]) == {}


def test_each_copy_names_the_first_that_is_like_it_and_what_was_not_measured_is_like_nothing() -> None:
    other = changed(layout_bits=30)
    assert near_duplicates([None, ONE, other, ONE, None, other, ONE]) == {3: 1, 5: 2, 6: 1}
    assert near_duplicates([None]) == near_duplicates([]) == {}
