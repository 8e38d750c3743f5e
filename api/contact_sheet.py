"""Pictures in a table with titles, for a person to compare."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from PIL import Image, ImageDraw, ImageFont

FONT_PIXELS = 16
LINE_PIXELS = 20
GAP_PIXELS = 10
ROW_TITLE_PIXELS = 220
"""Longer row titles go on in the next line."""
_PAPER, _INK, _LACKING = "white", "black", "#d8d8d8"

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def contact_sheet(
    rows: Sequence[Sequence[Image.Image]], column_titles: Sequence[str], row_titles: Sequence[str], heading: str = ""
) -> Image.Image:
    """A table of pictures as large as they are, with titles above and on the left, and a heading over all.

    Raises ValueError unless every row has as many pictures as there are column titles, and a title of its own.
    """
    font = ImageFont.load_default(FONT_PIXELS)
    columns = list(zip(*rows, strict=True))
    heads = [_label(title, font, _widest(column)) for title, column in zip(column_titles, columns, strict=True)]
    sides = [_label(title, font, ROW_TITLE_PIXELS) for title, _ in zip(row_titles, rows, strict=True)]
    widths = [max(head.width, _widest(column)) for head, column in zip(heads, columns, strict=True)]
    heights = [max(side.height, *(p.height for p in row)) for side, row in zip(sides, rows, strict=True)]
    lefts = _starts(max(side.width for side in sides), widths)
    over = _label(heading, font, lefts[-1] - 2 * GAP_PIXELS)
    tops = _starts(over.height + max(head.height for head in heads), heights)

    sheet = Image.new("RGB", (max(lefts[-1], over.width + 2 * GAP_PIXELS), tops[-1]), _PAPER)
    for top, row in zip(tops, rows, strict=False):
        for left, picture in zip(lefts, row, strict=False):
            sheet.paste(picture, (left, top))
    draw = ImageDraw.Draw(sheet)
    over.write(draw, font, GAP_PIXELS, GAP_PIXELS // 2)
    for left, head in zip(lefts, heads, strict=False):
        head.write(draw, font, left, tops[0] - GAP_PIXELS // 2 - head.height)
    for top, height, side in zip(tops, heights, sides, strict=False):
        side.write(draw, font, GAP_PIXELS, top + (height - side.height) // 2)
    return sheet


def captioned(picture: Image.Image, caption: str) -> Image.Image:
    """The picture with its caption below, which may make it wider."""
    font = ImageFont.load_default(FONT_PIXELS)
    label = _label(caption, font, picture.width)
    tile = Image.new("RGB", (max(picture.width, label.width), picture.height + label.height + GAP_PIXELS // 2), _PAPER)
    tile.paste(picture, (0, 0))
    label.write(ImageDraw.Draw(tile), font, 0, picture.height)
    return tile


def lacking(side: int, why: str) -> Image.Image:
    """What stands where there is no picture."""
    tile = Image.new("RGB", (side, side), _LACKING)
    font = ImageFont.load_default(FONT_PIXELS)
    _label(why, font, side).write(ImageDraw.Draw(tile), font, GAP_PIXELS // 2, side // 2 - LINE_PIXELS // 2)
    return tile


@dataclass(frozen=True, slots=True)
class _Label:
    lines: tuple[str, ...]
    width: int

    @property
    def height(self) -> int:
        return len(self.lines) * LINE_PIXELS

    def write(self, draw: ImageDraw.ImageDraw, font: _Font, left: int, top: int) -> None:
        for number, line in enumerate(self.lines):
            draw.text((left, top + number * LINE_PIXELS), line, fill=_INK, font=font)


def _label(title: str, font: _Font, width: int) -> _Label:
    """The title in lines of at most `width` pixels; only a single word may be wider."""
    lines: list[str] = []
    for word in title.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return _Label(tuple(lines), max((round(font.getlength(line)) for line in lines), default=0))


def _widest(pictures: Iterable[Image.Image]) -> int:
    return max(picture.width for picture in pictures)


def _starts(title_size: int, sizes: Sequence[int]) -> list[int]:
    """Where each column (row) starts behind the titles, then where the sheet ends."""
    return list(accumulate((size + GAP_PIXELS for size in sizes), initial=title_size + 2 * GAP_PIXELS))
