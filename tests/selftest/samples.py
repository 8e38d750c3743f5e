"""Pictures kept beside the tests; `pictures/README.md` says where they come from."""

from pathlib import Path

from PIL import Image

from api.selftest.shapes import PICTURE_SIDE

PICTURES = Path(__file__).with_name("pictures")


def tiles(name: str) -> list[list[Image.Image]]:
    """The rows of pictures in one of the files."""
    with Image.open(PICTURES / name) as opened:
        sheet = opened.convert("RGB")
    side = PICTURE_SIDE
    return [
        [sheet.crop((left, top, left + side, top + side)) for left in range(0, sheet.width, side)]
        for top in range(0, sheet.height, side)
    ]
