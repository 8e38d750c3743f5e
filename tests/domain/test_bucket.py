"""Where a picture goes; tests/engines/simpletuner compares it with the real trainer for many more sizes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.domain.bucket import ALIGNMENT, place, repeats_needed

SIDES = st.integers(32, 12_000)
RESOLUTIONS = st.integers(1, 32).map(lambda count: count * 64)


@pytest.mark.parametrize(
    ("size", "resolution", "bucket", "crop"),
    [
        ((1024, 1024), 1024, (1024, 1024), (0, 0, 1024, 1024)),
        ((6000, 4000), 1024, (1280, 832), (0, 47, 6000, 3948)),
        ((4000, 6000), 1024, (832, 1280), (47, 0, 3948, 6000)),
        ((600, 400), 512, (640, 448), (14, 0, 586, 400)),
        ((160, 48), 64, (128, 64), (32, 0, 128, 48)),
        ((700, 700), 704, (768, 768), (0, 0, 700, 700)),
    ],
)
def test_a_picture_falls_in_the_bucket_of_its_shape(
    size: tuple[int, int], resolution: int, bucket: tuple[int, int], crop: tuple[int, int, int, int]
) -> None:
    where = place(*size, resolution)
    assert where is not None
    assert (where.bucket, where.crop) == (bucket, crop)


def test_what_is_cut_away_and_enlarged_is_told() -> None:
    where = place(160, 48, 64)
    assert where is not None
    assert (round(where.cut_away, 2), round(where.upscale, 2)) == (0.4, 1.33)


def test_a_picture_too_narrow_to_have_an_aspect_is_left_out() -> None:
    assert place(32, 8000, 512) is None
    assert place(8000, 32, 512) is not None


@given(SIDES, SIDES, RESOLUTIONS)
def test_the_frame_lies_in_the_picture_and_the_bucket_in_the_grid(width: int, height: int, resolution: int) -> None:
    where = place(width, height, resolution)
    if where is None:
        assert width * 200 <= height
        return
    left, top, right, bottom = where.crop
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert 0 <= where.cut_away < 1
    assert where.bucket[0] % ALIGNMENT == where.bucket[1] % ALIGNMENT == 0
    assert where.resized[0] >= where.bucket[0]
    assert where.resized[1] >= where.bucket[1]


@given(st.lists(st.integers(1, 50), min_size=1), st.integers(1, 4096))
def test_with_these_repeats_every_bucket_fills_a_step_and_with_fewer_one_does_not(sizes: list[int], step: int) -> None:
    repeats = repeats_needed(sizes, step)
    assert all(size * (repeats + 1) >= step for size in sizes)
    assert repeats == 0 or any(size * repeats < step for size in sizes)
    assert repeats_needed([1], step) >= repeats


def test_no_pictures_need_no_repeats() -> None:
    assert repeats_needed([], 8) == 0
