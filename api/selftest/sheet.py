"""Pictures side by side for a person to compare, and how far apart two of them are as a number."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from api.errors import InputError

_FONT_PIXELS = 16
_LINE_PIXELS = 20
_GAP_PIXELS = 10
_ROW_TITLE_PIXELS = 220
"""Longer row titles go on in the next line."""
_PAPER, _INK = "white", "black"

_Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def contact_sheet(
    rows: Sequence[Sequence[Image.Image]], column_titles: Sequence[str], row_titles: Sequence[str], scale: int = 3
) -> Image.Image:
    """A table of pictures, every pixel `scale` pixels wide and high, with titles above and on the left.

    Raises ValueError unless every row has as many pictures as there are column titles, and a title of its own.
    """
    font = ImageFont.load_default(_FONT_PIXELS)
    table = [[_enlarged(picture, scale) for picture in row] for row in rows]
    columns = list(zip(*table, strict=True))
    heads = [_label(title, font, _widest(column)) for title, column in zip(column_titles, columns, strict=True)]
    sides = [_label(title, font, _ROW_TITLE_PIXELS) for title, _ in zip(row_titles, table, strict=True)]
    widths = [max(head.width, _widest(column)) for head, column in zip(heads, columns, strict=True)]
    heights = [max(side.height, *(p.height for p in row)) for side, row in zip(sides, table, strict=True)]
    lefts = _starts(max(side.width for side in sides), widths)
    tops = _starts(max(head.height for head in heads), heights)

    sheet = Image.new("RGB", (lefts[-1], tops[-1]), _PAPER)
    for top, row in zip(tops, table, strict=False):
        for left, picture in zip(lefts, row, strict=False):
            sheet.paste(picture, (left, top))
    draw = ImageDraw.Draw(sheet)
    for left, head in zip(lefts, heads, strict=False):
        head.write(draw, font, left, tops[0] - _GAP_PIXELS // 2 - head.height)
    for top, height, side in zip(tops, heights, sides, strict=False):
        side.write(draw, font, _GAP_PIXELS, top + (height - side.height) // 2)
    return sheet


def pixel_difference(a: Image.Image, b: Image.Image) -> float:
    """Mean absolute difference of two pictures over all pixels and channels, 0..255.

    Raises InputError `picture_sizes_differ`.
    """
    if a.size != b.size:
        raise InputError(
            "Only pictures of one size can be compared.",
            code="picture_sizes_differ",
            value=[a.size, b.size],
            hint="Compare pictures of the same width and height.",
        )
    first, second = (np.asarray(picture.convert("RGB"), dtype=np.int16) for picture in (a, b))
    return float(np.abs(first - second).mean())


@dataclass(frozen=True, slots=True)
class _Label:
    lines: tuple[str, ...]
    width: int

    @property
    def height(self) -> int:
        return len(self.lines) * _LINE_PIXELS

    def write(self, draw: ImageDraw.ImageDraw, font: _Font, left: int, top: int) -> None:
        for number, line in enumerate(self.lines):
            draw.text((left, top + number * _LINE_PIXELS), line, fill=_INK, font=font)


def _label(title: str, font: _Font, width: int) -> _Label:
    """The title in lines of at most `width` pixels; only a single word may be wider."""
    lines: list[str] = []
    for word in title.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return _Label(tuple(lines), max((round(font.getlength(line)) for line in lines), default=0))


def _enlarged(picture: Image.Image, scale: int) -> Image.Image:
    size = picture.width * scale, picture.height * scale
    return picture.convert("RGB").resize(size, Image.Resampling.NEAREST)


def _widest(pictures: Iterable[Image.Image]) -> int:
    return max(picture.width for picture in pictures)


def _starts(title_size: int, sizes: Sequence[int]) -> list[int]:
    """Where each column (row) starts behind the titles, then where the sheet ends."""
    return list(accumulate((size + _GAP_PIXELS for size in sizes), initial=title_size + 2 * _GAP_PIXELS))
