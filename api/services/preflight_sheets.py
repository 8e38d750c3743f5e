"""The preflight report as one picture: each with its frame, its bucket and what is wrong with it."""

import asyncio
import math
from collections.abc import Mapping, Sequence
from io import BytesIO

from PIL import Image, ImageDraw

from api.contact_sheet import captioned, contact_sheet, lacking
from api.domain.bucket import Placement
from api.domain.preflight import PictureReport
from api.domain.verdict import Level
from api.intake.measure import PREVIEW_SIDE
from api.resources import Resources
from api.services import measuring
from api.services.preflight import Preflight

MOST_TILES = 400
LONGEST_NAME = 20
BORDER_PIXELS = 4
_COLOURS = {Level.ERROR: "#c62828", Level.WARNING: "#ef6c00", Level.ADVICE: "#1565c0", None: "#2e7d32"}
_WORST_FIRST = [*Level, None]
_CUT_AWAY = 0.3
"""How bright the edges are shown that the trainer cuts off."""


async def draw(resources: Resources, found: Preflight) -> bytes:
    """A PNG; of more than MOST_TILES pictures it has the worst."""
    shown = list(found.report.pictures)
    if len(shown) > MOST_TILES:
        shown = sorted(shown, key=lambda each: _WORST_FIRST.index(_worst(each)))[:MOST_TILES]
    async with resources.sessions() as session:
        previews = await measuring.previews(session, [each.picture.sha256 for each in shown])
    return await asyncio.to_thread(_sheet, shown, previews, _heading(found, len(shown)))


def _sheet(shown: Sequence[PictureReport], previews: Mapping[str, bytes], heading: str) -> bytes:
    tiles = [captioned(_tile(each, previews.get(each.picture.sha256)), _words(each)) for each in shown]
    blank = Image.new("RGB", (PREVIEW_SIDE, PREVIEW_SIDE), "white")
    columns = max(4, math.ceil(math.sqrt(len(tiles))))
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)] or [[blank]]
    rows[-1] += [blank] * (columns - len(rows[-1]))
    rows[0] += [blank] * (columns - len(rows[0]))
    buffer = BytesIO()
    contact_sheet(rows, [""] * columns, [""] * len(rows), heading).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _tile(about: PictureReport, preview: bytes | None) -> Image.Image:
    """The picture with what is cut away in the dark, in the colour of the worst that is said about it."""
    tile = Image.new("RGB", (PREVIEW_SIDE + 2 * BORDER_PIXELS, PREVIEW_SIDE + 2 * BORDER_PIXELS), "white")
    if preview is None:
        picture = lacking(PREVIEW_SIDE, "not measured")
    else:
        with Image.open(BytesIO(preview), formats=("JPEG",)) as small:
            picture = small.convert("RGB")
        if about.place:
            picture = _framed(picture, about.place, about.picture.width)
    left, top = (tile.width - picture.width) // 2, (tile.height - picture.height) // 2
    tile.paste(picture, (left, top))
    edge = (left - BORDER_PIXELS, top - BORDER_PIXELS, left + picture.width + 3, top + picture.height + 3)
    ImageDraw.Draw(tile).rectangle(edge, outline=_COLOURS[_worst(about)], width=BORDER_PIXELS)
    return tile


def _framed(picture: Image.Image, place: Placement, width: int) -> Image.Image:
    left, top, right, bottom = (round(edge * picture.width / width) for edge in place.crop)
    framed = picture.point(lambda value: value * _CUT_AWAY)
    framed.paste(picture.crop((left, top, right, bottom)), (left, top))
    return framed


def _words(about: PictureReport) -> str:
    name = about.picture.filename
    short = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME // 2]}…{name[-LONGEST_NAME // 2 + 1 :]}"
    bucket = "in no bucket" if about.place is None else "{} x {}".format(*about.place.bucket)
    said = [
        each.code.replace("_", " ") + (f" {about.near_duplicate_of}" if each.code == "near_duplicate" else "")
        for each in about.verdicts
    ]
    return f"{short} {bucket}: {', '.join(said) or 'fine'}"


def _worst(about: PictureReport) -> Level | None:
    levels = {each.level for each in about.verdicts}
    return next((level for level in Level if level in levels), None)


def _heading(found: Preflight, shown: int) -> str:
    report, config = found.report, found.plan.config
    counts = ", ".join(
        f"{len(report.of_level(level))} {level}{'' if level is Level.ADVICE else 's'}" for level in Level
    )
    some = "" if shown == len(report.pictures) else f", the worst {shown} of them shown"
    about = (
        f"{found.dataset.name} for {found.plan.base_model} at {config.resolution} px: {len(report.pictures)} pictures"
    )
    buckets = f"{len(report.buckets)} buckets, {report.repeats} repeats"
    return f"{about}{some}; {buckets}; {counts}. {' '.join(each.message for each in report.verdicts)}"
