"""The preflight report as one picture: each with its frame, its bucket and what is wrong with it."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from io import BytesIO

from PIL import Image

from api.contact_sheet import GAP_PIXELS
from api.domain.preflight import PictureReport
from api.domain.verdict import Level
from api.resources import Resources
from api.services import measuring
from api.services.preflight import Preflight
from api.services.preflight_tiles import COLOURS, TILE_PIXELS, Line, tile, worst, written

MOST_TILES = 400
FEWEST_COLUMNS = 4
_WORST_FIRST = [*Level, None]
_NAMES = {Level.ERROR: "error", Level.WARNING: "warning", Level.ADVICE: "piece of advice"}
_PLURALS = {Level.ERROR: "errors", Level.WARNING: "warnings", Level.ADVICE: "pieces of advice"}


async def draw(resources: Resources, found: Preflight) -> bytes:
    """A PNG; of more than MOST_TILES pictures it has the worst."""
    shown = list(found.report.pictures)
    if len(shown) > MOST_TILES:
        shown = sorted(shown, key=lambda each: _WORST_FIRST.index(worst(each)))[:MOST_TILES]
    async with resources.sessions() as session:
        previews = await measuring.previews(session, [each.picture.sha256 for each in shown])
    return await asyncio.to_thread(_sheet, shown, previews, _heading(found, len(shown)))


def _sheet(shown: Sequence[PictureReport], previews: Mapping[str, bytes], heading: Sequence[Line]) -> bytes:
    columns = max(FEWEST_COLUMNS, math.ceil(math.sqrt(len(shown))))
    width = columns * (TILE_PIXELS + GAP_PIXELS) - GAP_PIXELS
    strips = [written(heading, width)]
    for start in range(0, len(shown), columns):
        # Row by row, so that the tiles of large datasets are not held all at once.
        strips.append(
            _strip([tile(each, previews.get(each.picture.sha256)) for each in shown[start:][:columns]], width)
        )
    height = sum(strip.height + GAP_PIXELS for strip in strips)
    sheet, top = Image.new("RGB", (width + 2 * GAP_PIXELS, height + GAP_PIXELS), "white"), GAP_PIXELS
    for strip in strips:
        sheet.paste(strip, (GAP_PIXELS, top))
        top += strip.height + GAP_PIXELS
    strips.clear()
    buffer = BytesIO()
    sheet.save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _strip(tiles: Sequence[Image.Image], width: int) -> Image.Image:
    strip = Image.new("RGB", (width, max(each.height for each in tiles)), "white")
    for number, each in enumerate(tiles):
        strip.paste(each, (number * (TILE_PIXELS + GAP_PIXELS), 0))
    return strip


def _heading(found: Preflight, shown: int) -> list[Line]:
    report, config = found.report, found.plan.config
    pictures = f"{len(report.pictures)} picture{'' if len(report.pictures) == 1 else 's'}"
    some = "" if shown == len(report.pictures) else f", the worst {shown} of them shown"
    buckets = ", ".join(f"{each.width} x {each.height} ({each.images})" for each in report.buckets)
    counts = {level: len(report.of_level(level)) for level in Level}
    return [
        Line(f"{found.dataset.name} for {found.plan.base_model} at {config.resolution} px: {pictures}{some}"),
        Line(f"Buckets: {buckets or 'none'}; repeats: {report.repeats}"),
        *(
            Line(f"{count} {(_NAMES if count == 1 else _PLURALS)[level]} in all", COLOURS[level])
            for level, count in counts.items()
            if count
        ),
        *(Line(f"{each.message} {each.hint}", COLOURS[each.level]) for each in report.verdicts),
        Line("Dark edges behind a white line are cut away"),
    ]
