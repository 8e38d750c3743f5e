"""A contact sheet shows every picture whole and unblurred with its titles beside it, never across it."""

import random

import numpy as np
import pytest
from PIL import Image

from api.errors import InputError
from api.selftest.scenes import scene
from api.selftest.sheet import contact_sheet, pixel_difference

PROMPTS = ["a photo of ohwx on a blue background", "a small red circle at the left on a yellow striped background"]
COLUMNS = ["base", "LoRA 0.5", "LoRA 1.0, after all 180 steps of training"]


@pytest.fixture
def rows() -> list[list[Image.Image]]:
    rng = random.Random(1)
    return [[scene(rng).image for _ in COLUMNS] for _ in PROMPTS]


def _places(picture: Image.Image, sheet: Image.Image) -> list[tuple[int, int]]:
    """Every (left, top) at which the sheet shows the picture, pixel for pixel, with paper before and above it."""
    wanted, given = np.asarray(picture), np.asarray(sheet)
    height, width = wanted.shape[:2]
    paper = (given == 255).all(-1)
    corners = paper[:-1, 1:] & paper[1:, :-1] & (given[1:, 1:] == wanted[0, 0]).all(-1)
    return [
        (int(left), int(top))
        for top, left in np.argwhere(corners) + 1
        if np.array_equal(given[top : top + height, left : left + width], wanted)
    ]


def _ink(sheet: Image.Image, box: tuple[int, int, int, int]) -> int:
    """How many pixels of a part of the sheet are nearly black."""
    return int((np.asarray(sheet.crop(box).convert("L")) < 60).sum())


def test_every_picture_is_in_its_row_and_column_three_times_as_large(rows: list[list[Image.Image]]) -> None:
    sheet = contact_sheet(rows, COLUMNS, PROMPTS)

    found = [[_places(p.resize((192, 192), Image.Resampling.NEAREST), sheet) for p in row] for row in rows]

    assert all(len(places) == 1 for row in found for places in row)
    lefts = [[places[0][0] for places in row] for row in found]
    tops = [[places[0][1] for places in row] for row in found]
    assert lefts[0] == lefts[1] == sorted(lefts[0])
    assert [len(set(row)) for row in tops] == [1, 1]
    assert tops[0][0] < tops[1][0]


def test_each_title_stands_beside_its_row_or_above_its_column(rows: list[list[Image.Image]]) -> None:
    sheet = contact_sheet(rows, COLUMNS, PROMPTS)
    places = [[_places(p.resize((192, 192), Image.Resampling.NEAREST), sheet)[0] for p in row] for row in rows]
    top = places[0][0][1]

    for left, _ in places[0]:
        assert _ink(sheet, (left, 0, left + 192, top)) > 40
    for row in places:
        left, row_top = row[0]
        assert _ink(sheet, (0, row_top, left, row_top + 192)) > 200
    blank = contact_sheet(rows, ["", "", ""], ["", ""])
    assert _ink(blank, (0, 0, blank.width, _places(rows[0][0].resize((192, 192), 0), blank)[0][1])) == 0


def test_a_word_wider_than_a_picture_makes_room_for_itself(rows: list[list[Image.Image]]) -> None:
    tiny = [[picture.resize((8, 8)) for picture in row] for row in rows]
    titles = ["character-0a1b2c3d.safetensors", "b", "c"]

    sheet = contact_sheet(tiny, titles, PROMPTS)
    second = _places(tiny[0][1].resize((24, 24), Image.Resampling.NEAREST), sheet)[0][0]
    first = _places(tiny[0][0].resize((24, 24), Image.Resampling.NEAREST), sheet)[0][0]

    assert second - first > 200


def test_pictures_of_other_sizes_and_modes_can_be_on_one_sheet() -> None:
    small, large = Image.new("L", (4, 4), 10), Image.new("RGBA", (300, 20), "red")

    sheet = contact_sheet([[small], [large]], ["x"], ["gray", "red"], scale=1)

    assert sheet.width > 300
    assert _places(large.convert("RGB"), sheet)


@pytest.mark.parametrize(
    ("columns", "titles"), [(COLUMNS[:2], PROMPTS), (COLUMNS, PROMPTS[:1]), ([*COLUMNS, "x"], PROMPTS)]
)
def test_a_missing_or_surplus_title_is_refused(
    rows: list[list[Image.Image]], columns: list[str], titles: list[str]
) -> None:
    with pytest.raises(ValueError, match="zip"):
        contact_sheet(rows, columns, titles)


def test_the_difference_is_the_mean_over_pixels_and_channels() -> None:
    black, white = Image.new("RGB", (2, 2), "black"), Image.new("RGB", (2, 2), "white")
    one_red_pixel = black.copy()
    one_red_pixel.putpixel((0, 0), (255, 0, 0))

    assert pixel_difference(black, black) == 0
    assert pixel_difference(black, white) == pixel_difference(white, black) == 255
    assert pixel_difference(black, one_red_pixel) == 255 / 12


def test_pictures_of_two_sizes_have_no_difference() -> None:
    with pytest.raises(InputError) as caught:
        pixel_difference(Image.new("RGB", (64, 64)), Image.new("RGB", (64, 65)))

    assert caught.value.code == "picture_sizes_differ"
