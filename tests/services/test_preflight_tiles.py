"""One picture of a preflight's contact sheet."""

from uuid import UUID

import pytest
from PIL import Image

from api.domain.bucket import place
from api.domain.preflight import Picture, PictureReport
from api.domain.verdict import Verdict, advice, error, warning
from api.services.preflight_tiles import COLOURS, LINE_PIXELS, TILE_PIXELS, Line, tile, written
from tests.intake.pictures import encoded

LONG = "IMG_" + "0123456789" * 20 + ".jpeg"


def report(*verdicts: Verdict, filename: str = "1.jpg", size: tuple[int, int] = (600, 400)) -> PictureReport:
    picture = Picture(UUID(int=1), filename, "0" * 64, *size, "ohwx", "uploaded")
    return PictureReport(picture, place(*size, 512), 0.3, "ohwx", 99, LONG, verdicts)


def preview(size: tuple[int, int] = (224, 149)) -> bytes:
    return encoded(Image.new("RGB", size, (200, 200, 200)), "JPEG")


def colour(level: str | None) -> tuple[int, ...]:
    return tuple(bytes.fromhex(COLOURS[level][1:]))  # type: ignore[index]


@pytest.mark.parametrize(
    ("verdicts", "level"),
    [
        ((), None),
        ((advice("upscaled", "."),), "advice"),
        ((advice("upscaled", "."), warning("blurry", ".", ".")), "warning"),
        ((warning("blurry", ".", "."), error("file_missing", ".", ".")), "error"),
    ],
)
def test_the_frame_has_the_colour_of_the_worst(verdicts: tuple[Verdict, ...], level: str | None) -> None:
    assert tile(report(*verdicts), preview()).getpixel((0, 0)) == colour(level)


def test_what_is_cut_away_is_dark_behind_a_line() -> None:
    shown = tile(report(), preview())  # 14 of 600 pixels are cut away on each side
    row = [shown.getpixel((x, 70))[0] for x in range(TILE_PIXELS)]  # type: ignore[index]
    assert row[6] == pytest.approx(60, abs=5)
    assert row[20] == pytest.approx(200, abs=5)
    assert max(row[4:20]) == 255


def test_every_verdict_has_a_line_and_long_names_stay_within_the_tile() -> None:
    said = [warning(code, ".", ".") for code in ("tiny", "blurry", "near_duplicate", "caption_too_long", "too_dark")]
    one, all_five = tile(report(filename=LONG), preview()), tile(report(*said, filename=LONG), preview())
    assert one.width == all_five.width == TILE_PIXELS
    assert all_five.height - one.height == 4 * LINE_PIXELS


def test_a_picture_without_preview_or_bucket_is_shown_too() -> None:
    assert tile(report(size=(32, 9000)), None).height > TILE_PIXELS


def test_long_lines_go_on_below() -> None:
    line = Line("word " * 100, "#c62828")
    paper = written([line], TILE_PIXELS)
    assert paper.width == TILE_PIXELS
    assert paper.height > 10 * LINE_PIXELS
    assert {paper.getpixel((TILE_PIXELS - 1, y)) for y in range(paper.height)} == {(255, 255, 255)}
