"""The loss of a training as a picture: every step faint, the smoothed curve over it, training checkpoints marked."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageDraw, ImageFont

from api.domain.curve import Course, smoothed, thinned

FINER = 2
"""Drawn so many times as large and then shrunk, so that lines are smooth."""
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 40, 40
TICK_PIXELS = 80
PAPER, INK, GRID = "white", "#333333", "#e4e4e4"
RAW, SMOOTH, SAVED = "#b9cdea", "#1f4e9c", "#d9822b"
SHARE_SHOWN = 0.995
"""Of the steps; a few higher peaks would press all others to the ground, and are cut off."""

Curve = Sequence[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class _Frame:
    """What lies where, in the pixels of the finer picture."""

    width: int
    height: int
    last_step: int
    low: float
    high: float

    def x(self, step: float) -> float:
        inside = self.width - (LEFT + RIGHT) * FINER
        return LEFT * FINER + inside * step / self.last_step

    def y(self, loss: float) -> float:
        inside = self.height - (TOP + BOTTOM) * FINER
        share = min(1.0, max(0.0, (loss - self.low) / (self.high - self.low)))
        return TOP * FINER + inside * (1 - share)


def loss_chart(course: Course, total_steps: int, title: str, width: int, height: int) -> bytes:
    """A PNG of this size. Without any step yet it says so."""
    raw = [(point.step, point.loss) for point in thinned(course.points, 2 * width) if point.loss is not None]
    smooth = smoothed(course.points)
    frame = _frame(raw, max([total_steps, 1, *(step for step, _ in raw)]), width * FINER, height * FINER)
    image = Image.new("RGB", (frame.width, frame.height), PAPER)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(13 * FINER)
    _axes(draw, frame, font)
    for step in course.checkpoints:
        x = frame.x(step)
        draw.line([(x, TOP * FINER), (x, frame.height - BOTTOM * FINER)], fill=SAVED, width=FINER)
        draw.ellipse(_dot(x, frame.height - BOTTOM * FINER), fill=SAVED)
    _line(draw, frame, raw, RAW, FINER)
    _line(draw, frame, smooth, SMOOTH, 2 * FINER + 1)
    draw.text((LEFT * FINER, 10 * FINER), _heading(title, smooth), fill=INK, font=font)
    buffer = BytesIO()
    image.resize((width, height), Image.Resampling.LANCZOS).save(buffer, "PNG")
    return buffer.getvalue()


def _frame(raw: Curve, last_step: int, width: int, height: int) -> _Frame:
    losses = sorted(loss for _, loss in raw) or [0.0, 1.0]
    low, high = losses[0], losses[min(len(losses) - 1, math.ceil(SHARE_SHOWN * len(losses)))]
    spare = 0.05 * (high - low) or max(0.05 * abs(high), 1e-6)
    return _Frame(width, height, last_step, low - spare, high + spare)


def _axes(draw: ImageDraw.ImageDraw, frame: _Frame, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> None:
    right, bottom = frame.width - RIGHT * FINER, frame.height - BOTTOM * FINER
    for value in _ticks(frame.low, frame.high, (bottom - TOP * FINER) // (TICK_PIXELS * FINER)):
        y = frame.y(value)
        draw.line([(LEFT * FINER, y), (right, y)], fill=GRID, width=FINER)
        draw.text((LEFT * FINER - 8 * FINER, y), f"{value:.4g}", fill=INK, font=font, anchor="rm")
    for value in _ticks(0, frame.last_step, (right - LEFT * FINER) // (TICK_PIXELS * FINER)):
        draw.text((frame.x(value), bottom + 14 * FINER), f"{value:.0f}", fill=INK, font=font, anchor="mm")
    draw.line([(LEFT * FINER, TOP * FINER), (LEFT * FINER, bottom), (right, bottom)], fill=INK, width=FINER)


def _ticks(low: float, high: float, most: int) -> Iterator[float]:
    """Round numbers between the two, about `most` of them."""
    rough = (high - low) / max(1, most)
    power = 10.0 ** math.floor(math.log10(rough))
    apart = next(power * digit for digit in (1, 2, 5, 10) if power * digit >= rough)
    first = math.ceil(low / apart)
    for number in range(first, math.floor(high / apart) + 1):
        yield number * apart


def _line(draw: ImageDraw.ImageDraw, frame: _Frame, curve: Curve, colour: str, width: int) -> None:
    places = [(frame.x(step), frame.y(loss)) for step, loss in curve]
    if len(places) == 1:
        draw.ellipse(_dot(*places[0]), fill=colour)
    elif places:
        draw.line(places, fill=colour, width=width, joint="curve")


def _dot(x: float, y: float) -> tuple[float, float, float, float]:
    return x - 3 * FINER, y - 3 * FINER, x + 3 * FINER, y + 3 * FINER


def _heading(title: str, smooth: Curve) -> str:
    if not smooth:
        return f"{title}: no step yet"
    step, loss = smooth[-1]
    return f"{title}: loss {loss:.4g} (smoothed) at step {step}"
