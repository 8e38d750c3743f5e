"""What becomes of an upload: pictures taken, and a word on every file."""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Self

from api.domain.manifest import Manifest
from api.domain.measurement import Measured
from api.domain.upload import IncomingFile, Refusal, pair_key, shown, unique_stems
from api.errors import InputError


class CaptionSource(StrEnum):
    UPLOADED = "uploaded"
    MANUAL = "manual"
    """Written or changed here, by a person."""
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Caption:
    """A caption file that was read: its text, or why it cannot be used."""

    filename: str
    text: str | InputError


@dataclass(frozen=True, slots=True)
class Candidate:
    """A picture still to be looked at, with what its name and its caption have already settled."""

    file: IncomingFile
    stem: str
    caption: str | None


@dataclass(frozen=True, slots=True)
class TakenImage:
    """A picture ready for training: upright, 8-bit RGB or grey, opaque, without metadata."""

    path: Path
    """`<stem>.<jpg|png|webp>`; the stem is plain ASCII and no other picture of the intake has it."""
    original_name: str
    stem: str
    sha256: str
    """Of the file at `path`."""
    pixels_sha256: str
    """Of the decoded RGB pixels: equal for the same picture in two formats."""
    width: int
    height: int
    format: str
    """`jpeg`, `png` or `webp`."""
    size: int
    caption: str | None
    """As uploaded, cleaned, one line; without the trigger word, see `domain.caption.with_trigger_word`."""
    measured: Measured | None = None
    """Of its pixels, while they were there; they can be measured again at any time."""

    @property
    def caption_source(self) -> CaptionSource:
        return CaptionSource.NONE if self.caption is None else CaptionSource.UPLOADED


@dataclass(frozen=True, slots=True)
class ReportEntry:
    """What became of one uploaded file; the sender sees it as JSON."""

    filename: str
    status: str
    """`taken` or `refused`."""
    code: str | None = None
    """A `Refusal` when refused."""
    reason: str = ""
    duplicate_of: str | None = None

    @classmethod
    def taken(cls, filename: str) -> Self:
        return cls(shown(filename), "taken")

    @classmethod
    def refused(cls, filename: str, error: InputError) -> Self:
        duplicate_of = error.value if error.code == Refusal.DUPLICATE else None
        return cls(shown(filename), "refused", str(error.code), str(error), duplicate_of)


class NoUsableImagesError(InputError):
    """None of the files can be trained on."""

    default_code = "no_usable_images"

    def __init__(self, report: tuple[ReportEntry, ...]) -> None:
        super().__init__(hint="Send PNG, JPEG or WebP pictures; `errors` says what was wrong with each file.")
        self.report = report


@dataclass(frozen=True, slots=True)
class Intake:
    """The outcome of one upload: what can be trained on, and a word on every file."""

    images: tuple[TakenImage, ...]
    report: tuple[ReportEntry, ...]
    manifest: Manifest | None = None
    """Where the upload is what a dataset was exported to."""


def plan(images: Iterable[IncomingFile], captions: Mapping[str, Caption]) -> list[Candidate]:
    """What to look at, in order; `captions` by `pair_key`."""
    files = list(images)
    stems = unique_stems(file.filename for file in files)
    return [
        Candidate(file, stem, _text(captions.get(pair_key(file.filename))))
        for file, stem in zip(files, stems, strict=True)
    ]


def _text(caption: Caption | None) -> str | None:
    return caption.text if caption and isinstance(caption.text, str) else None


def refuse_duplicates(
    outcomes: Iterable[tuple[str, TakenImage | InputError]],
) -> Iterator[tuple[str, TakenImage | InputError]]:
    """The outcomes by file name, with pictures whose pixels an earlier one has refused."""
    first: dict[str, str] = {}
    for filename, outcome in outcomes:
        if isinstance(outcome, TakenImage) and outcome.pixels_sha256 in first:
            original = first[outcome.pixels_sha256]
            yield filename, InputError(f"The same picture as {original}.", code=Refusal.DUPLICATE, value=original)
        else:
            if isinstance(outcome, TakenImage):
                first[outcome.pixels_sha256] = shown(filename)
            yield filename, outcome


def caption_verdict(caption: Caption, key: str, candidates: Container[str], taken: Container[str]) -> ReportEntry:
    """What became of a caption, given the pair keys of all pictures looked at and of those taken."""
    if isinstance(caption.text, InputError):
        return ReportEntry.refused(caption.filename, caption.text)
    if key in taken:
        return ReportEntry.taken(caption.filename)
    reason = "Its picture was refused." if key in candidates else "No picture has this name."
    return ReportEntry.refused(caption.filename, InputError(reason, code=Refusal.CAPTION_WITHOUT_IMAGE))
