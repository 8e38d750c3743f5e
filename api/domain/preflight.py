"""The report on a dataset before it is trained on. Pure: what is known goes in, verdicts come out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from api.domain.bucket import Placement, Size, place, repeats_needed
from api.domain.caption import training_caption
from api.domain.caption_verdicts import about_caption
from api.domain.clip_tokens import ClipTokens
from api.domain.measurement import Measurement, near_duplicates
from api.domain.picture_verdicts import about_duplicate, about_file, about_pixels, about_shape
from api.domain.set_verdicts import Subject, about_set
from api.domain.verdict import Level, Verdict


@dataclass(frozen=True, slots=True)
class Picture:
    """What is known of one picture."""

    id: UUID
    filename: str
    sha256: str
    width: int
    height: int
    caption: str
    caption_source: str


@dataclass(frozen=True, slots=True)
class Intent:
    """What it is to be trained for."""

    resolution: int
    images_per_step: int
    """Of one optimizer step: batch size x gradient accumulation."""
    trigger_word: str | None
    name: str
    subject: Subject


@dataclass(frozen=True, slots=True)
class Findings:
    """What looking at the files gave, by sha256; what is in neither was not looked at."""

    measured: Mapping[str, Measurement]
    broken: Mapping[str, str]
    """`file_missing` or `file_damaged`."""


@dataclass(frozen=True, slots=True)
class PictureReport:
    picture: Picture
    place: Placement | None
    sharpness: float | None
    caption: str
    """As it is trained on."""
    caption_tokens: int | None
    near_duplicate_of: str | None
    """Its file name."""
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True)
class Bucket:
    """Pictures that are trained on at the same size."""

    width: int
    height: int
    images: int


@dataclass(frozen=True, slots=True)
class Report:
    pictures: tuple[PictureReport, ...]
    buckets: tuple[Bucket, ...]
    repeats_needed: int
    """So that no bucket is too small for an optimizer step."""
    repeats: int
    """That the trainer is given: enough for a bucket of a single picture."""
    unmeasured: int
    verdicts: tuple[Verdict, ...]
    """About the whole."""

    def of_level(self, level: Level) -> list[tuple[str | None, Verdict]]:
        """With the file name of the picture that each is about."""
        own = [(each.picture.filename, verdict) for each in self.pictures for verdict in each.verdicts]
        return [
            (name, verdict) for name, verdict in [*((None, v) for v in self.verdicts), *own] if verdict.level is level
        ]

    def summary(self) -> dict[str, Any]:
        """What a training session keeps of it; plain JSON."""
        counts = {level.value: Counter(v.code for _, v in self.of_level(level)) for level in Level}
        return {
            "images": len(self.pictures),
            "buckets": [{"width": b.width, "height": b.height, "images": b.images} for b in self.buckets],
            "repeats": self.repeats,
            "unmeasured": self.unmeasured,
            **{f"{level}s" if level != Level.ADVICE else level: dict(found) for level, found in counts.items()},
        }


def examine(pictures: Sequence[Picture], intent: Intent, found: Findings, tokens: ClipTokens | None) -> Report:
    """Without `tokens` the captions' lengths are not known. Takes seconds for thousands of pictures."""
    measured = [found.measured.get(each.sha256) for each in pictures]
    originals = near_duplicates(measured)
    reports = tuple(
        _about(picture, intent, found, tokens, pictures[originals[number]].filename if number in originals else None)
        for number, picture in enumerate(pictures)
    )
    sizes = Counter(each.place.bucket for each in reports if each.place)
    unmeasured = sum(each.sha256 not in found.measured and each.sha256 not in found.broken for each in pictures)
    captions = [each.caption for each in reports]
    return Report(
        pictures=reports,
        buckets=tuple(_bucket(size, count) for size, count in sorted(sizes.items())),
        repeats_needed=repeats_needed(sizes.values(), intent.images_per_step),
        repeats=repeats_needed([1], intent.images_per_step),
        unmeasured=unmeasured,
        verdicts=tuple(about_set(len(pictures), intent.subject, intent.trigger_word, captions, unmeasured)),
    )


def _bucket(size: Size, images: int) -> Bucket:
    return Bucket(*size, images)


def _about(
    picture: Picture, intent: Intent, found: Findings, tokens: ClipTokens | None, original: str | None
) -> PictureReport:
    where = place(picture.width, picture.height, intent.resolution)
    measured, broken = found.measured.get(picture.sha256), found.broken.get(picture.sha256)
    caption = training_caption(picture.caption, intent.trigger_word, intent.name)
    count = tokens.most(caption) if tokens else None
    verdicts = [about_file(broken)] if broken else []
    verdicts += about_shape(picture.width, picture.height, where)
    verdicts += about_pixels(measured, intent.resolution) if measured else ()
    verdicts += [about_duplicate(original)] if original else ()
    verdicts += about_caption(picture.caption, picture.caption_source, intent.trigger_word, count)
    sharpness = measured.sharpness_at(intent.resolution) if measured else None
    return PictureReport(picture, where, sharpness, caption, count, original, tuple(verdicts))
