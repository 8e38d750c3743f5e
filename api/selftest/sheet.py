"""Pictures side by side for a person to compare, and how far apart two of them are as a number."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from api import contact_sheet as table
from api.errors import InputError


def contact_sheet(
    rows: Sequence[Sequence[Image.Image]], column_titles: Sequence[str], row_titles: Sequence[str], scale: int = 3
) -> Image.Image:
    """A table of pictures, every pixel `scale` pixels wide and high, with titles above and on the left.

    Raises ValueError unless every row has as many pictures as there are column titles, and a title of its own.
    """
    enlarged = [[_enlarged(picture, scale) for picture in row] for row in rows]
    return table.contact_sheet(enlarged, column_titles, row_titles)


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


def _enlarged(picture: Image.Image, scale: int) -> Image.Image:
    size = picture.width * scale, picture.height * scale
    return picture.convert("RGB").resize(size, Image.Resampling.NEAREST)
