"""One picture of a preflight's contact sheet: what is kept of it, where it goes, and what is said about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont

from api.contact_sheet import lacking
from api.domain.bucket import Placement
from api.domain.preflight import PictureReport
from api.domain.verdict import Level, Verdict
from api.intake.measure import PREVIEW_SIDE

FONT_PIXELS = 14
LINE_PIXELS = 18
MARK_PIXELS = 9
BORDER_PIXELS = 4
TILE_PIXELS = PREVIEW_SIDE + 2 * BORDER_PIXELS
COLOURS = {Level.ERROR: "#c62828", Level.WARNING: "#ef6c00", Level.ADVICE: "#1565c0", None: "#2e7d32"}
_PAPER, _INK, _FRAME = "white", "#1b1b1b", "white"
_CUT_AWAY = 0.3
"""How bright the edges are shown that the trainer cuts off."""


@dataclass(frozen=True, slots=True)
class Line:
    text: str
    mark: str | None = None
    """Colour of a square before it."""


def tile(about: PictureReport, preview: bytes | None) -> Image.Image:
    """The picture with what is cut away in the dark, in the colour of the worst that is said, and the words below."""
    picture = _picture(about, preview)
    words = written([Line(_fitting(about.picture.filename)), Line(_sizes(about)), *_said(about)], TILE_PIXELS)
    below = picture.height + 3 * BORDER_PIXELS
    whole = Image.new("RGB", (TILE_PIXELS, below + words.height), _PAPER)
    left = (TILE_PIXELS - picture.width) // 2
    frame = (left - BORDER_PIXELS, 0, left + picture.width + BORDER_PIXELS - 1, picture.height + 2 * BORDER_PIXELS - 1)
    ImageDraw.Draw(whole).rectangle(frame, fill=COLOURS[worst(about)])
    whole.paste(picture, (left, BORDER_PIXELS))
    whole.paste(words, (0, below))
    return whole


def worst(about: PictureReport) -> Level | None:
    levels = {each.level for each in about.verdicts}
    return next((level for level in Level if level in levels), None)


def written(lines: Sequence[Line], width: int) -> Image.Image:
    """Each line with its mark, going on below where it is longer than `width` pixels."""
    font = ImageFont.load_default(FONT_PIXELS)
    indent = MARK_PIXELS + 5
    wrapped = [(_wrapped(line.text, font, width - (indent if line.mark else 0)), line.mark) for line in lines]
    paper = Image.new("RGB", (width, LINE_PIXELS * sum(len(parts) for parts, _ in wrapped)), _PAPER)
    draw, top = ImageDraw.Draw(paper), 0
    for parts, mark in wrapped:
        if mark:
            above = top + (LINE_PIXELS - MARK_PIXELS) // 2
            draw.rectangle((0, above, MARK_PIXELS, above + MARK_PIXELS), fill=mark)
        for part in parts:
            draw.text((indent if mark else 0, top), part, fill=_INK, font=font)
            top += LINE_PIXELS
    return paper


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _fitting(name: str, width: int = TILE_PIXELS) -> str:
    """With something left out in the middle where it is too long for one line."""
    font = ImageFont.load_default(FONT_PIXELS)
    short, half = name, len(name) // 2
    while font.getlength(short) > width:
        half -= 1
        short = f"{name[:half]}…{name[-half:]}"
    return short


def _picture(about: PictureReport, preview: bytes | None) -> Image.Image:
    if preview is None:
        return lacking(PREVIEW_SIDE, "not measured")
    with Image.open(BytesIO(preview), formats=("JPEG",)) as small:
        picture = small.convert("RGB")
    return _framed(picture, about.place, about.picture.width) if about.place else picture


def _framed(picture: Image.Image, place: Placement, width: int) -> Image.Image:
    left, top, right, bottom = (round(edge * picture.width / width) for edge in place.crop)
    framed = picture.point(lambda value: value * _CUT_AWAY)
    framed.paste(picture.crop((left, top, right, bottom)), (left, top))
    draw = ImageDraw.Draw(framed)
    for shown, line in (
        (left > 0, (left, 0, left, picture.height)),
        (top > 0, (0, top, picture.width, top)),
        (right < picture.width, (right - 1, 0, right - 1, picture.height)),
        (bottom < picture.height, (0, bottom - 1, picture.width, bottom - 1)),
    ):
        if shown:
            draw.line(line, fill=_FRAME)
    return framed


def _sizes(about: PictureReport) -> str:
    size = f"{about.picture.width} x {about.picture.height}"
    if about.place is None:
        return f"{size}, in no bucket"
    cut = f", {about.place.cut_away:.0%} cut" if about.place.cut_away >= 0.005 else ""
    return f"{size} to {about.place.bucket[0]} x {about.place.bucket[1]}{cut}"


def _said(about: PictureReport) -> list[Line]:
    worst_first = sorted(about.verdicts, key=lambda each: list(Level).index(each.level))
    lines = [Line(_short(each, about), COLOURS[each.level]) for each in worst_first]
    return lines or [Line("fine", COLOURS[None])]


def _short(verdict: Verdict, about: PictureReport) -> str:
    """The verdict's code in words, with the figure that it is about."""
    words = verdict.code.replace("_", " ")
    if verdict.level is Level.ERROR:
        words = f"error: {words}"
    match verdict.code:
        case "tiny" if about.place:
            return f"{words}, enlarged {about.place.upscale:.1f} times"
        case "upscaled" if about.place:
            return f"{words} {about.place.upscale:.2f} times"
        case "blurry":
            return f"{words}, sharpness {about.sharpness:.2f}"
        case "near_duplicate":
            return _fitting(f"like {about.near_duplicate_of}", TILE_PIXELS - 2 * MARK_PIXELS)
        case "caption_too_long":
            return f"{words}, {about.caption_tokens} tokens"
    return words
