"""What a person uploads: how much of it, under which names, and what a name says of a file."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Self

from api.errors import InputError
from api.settings import Settings

BYTES_PER_MB = 1024 * 1024

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
CAPTION_SUFFIX = ".txt"
ARCHIVE_SUFFIX = ".zip"
MANIFEST_NAME = "masuka-dataset.json"
CLUTTER_NAMES = frozenset({".ds_store", "thumbs.db", "desktop.ini"})
CLUTTER_FOLDER = "__macosx"

_DRIVE = re.compile(r"[A-Za-z]:")
_NOT_SLUG = re.compile(r"[^A-Za-z0-9_-]+")
_STEM_CHARACTERS = 64
_NAME_CHARACTERS = 1024
_SHOWN_CHARACTERS = 255


class Refusal(StrEnum):
    """Why a file of an upload was left out; stable codes."""

    CORRUPT_IMAGE = "corrupt_image"
    NOT_AN_IMAGE = "not_an_image"
    ANIMATED_IMAGE = "animated_image"
    TOO_SMALL = "too_small"
    TOO_MANY_PIXELS = "too_many_pixels"
    DUPLICATE = "duplicate"
    UNSUPPORTED_TYPE = "unsupported_type"
    UNSAFE_NAME = "unsafe_name"
    FILE_TOO_LARGE = "file_too_large"
    CAPTION_WITHOUT_IMAGE = "caption_without_image"
    DUPLICATE_CAPTION = "duplicate_caption"
    EMPTY_CAPTION = "empty_caption"
    MANIFEST_INVALID = "manifest_invalid"
    ENCRYPTED = "encrypted"
    SYMLINK = "symlink"
    CORRUPT_ENTRY = "corrupt_entry"


class FileKind(StrEnum):
    IMAGE = "image"
    CAPTION = "caption"
    ARCHIVE = "archive"
    MANIFEST = "manifest"
    """What an exported zip says of itself."""
    CLUTTER = "clutter"
    """What operating systems leave in folders and zips; ignored without a word."""


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """What one upload may be, from the settings named in the error that a breach raises."""

    file_bytes: int
    total_bytes: int
    """Of the upload; of a zip's contents, too."""
    files: int
    image_pixels: int
    min_side: int

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(
            file_bytes=settings.masuka_max_file_mb * BYTES_PER_MB,
            total_bytes=settings.masuka_max_upload_mb * BYTES_PER_MB,
            files=settings.masuka_max_files,
            image_pixels=settings.masuka_max_image_pixels,
            min_side=settings.masuka_min_image_side,
        )


@dataclass(frozen=True, slots=True)
class IncomingFile:
    """A file of an upload: bytes at `path`, and the name its sender gave it, which is never used as a path."""

    filename: str
    path: Path
    size: int


def shown(filename: str) -> str:
    """A sender's file name, fit for answers, logs and databases: no control characters, of bounded length."""
    clean = "".join("\ufffd" if unicodedata.category(c) in {"Cc", "Cs"} else c for c in filename)
    return clean if len(clean) <= _SHOWN_CHARACTERS else clean[: _SHOWN_CHARACTERS - 1] + "…"


def relative_path(filename: str) -> PurePosixPath:
    """A sender's file name as a path below an imaginary root, to match names with; nothing is opened by it.

    Raises InputError (`unsafe_name`) for names that would leave the root or cannot be shown.
    """
    name = unicodedata.normalize("NFC", filename).replace("\\", "/")
    path = PurePosixPath(name)
    if (
        not path.name
        or len(name) > _NAME_CHARACTERS
        or path.is_absolute()
        or _DRIVE.match(name)
        or ".." in path.parts
        or any(unicodedata.category(c) in {"Cc", "Cs"} for c in name)
    ):
        raise InputError(
            "The name is absolute, leaves its folder, or holds characters that no file name should.",
            code=Refusal.UNSAFE_NAME,
            value=shown(filename),
        )
    return path


def file_kind(filename: str) -> FileKind:
    """What a file is taken for, by its name alone.

    Raises InputError: `unsafe_name` or `unsupported_type`.
    """
    path = relative_path(filename)
    name = path.name.lower()
    if name in CLUTTER_NAMES or name.startswith("._") or path.parts[0].lower() == CLUTTER_FOLDER:
        return FileKind.CLUTTER
    if str(path) == MANIFEST_NAME:
        return FileKind.MANIFEST
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return FileKind.IMAGE
    if suffix == CAPTION_SUFFIX:
        return FileKind.CAPTION
    if suffix == ARCHIVE_SUFFIX:
        return FileKind.ARCHIVE
    raise InputError(
        f"Files of type {shown(suffix) or '(none)'} are not taken.",
        code=Refusal.UNSUPPORTED_TYPE,
        value=shown(filename),
        hint="Send PNG, JPEG or WebP pictures, .txt captions, or one .zip of them.",
    )


def pair_key(filename: str) -> str:
    """Equal for a picture and its caption: the same folder and stem, whatever the case.

    `a.png` and `a.jpg` have one key, so both get the caption of `a.txt`, as the trainer itself would do.
    """
    return str(relative_path(filename).with_suffix("")).casefold()


def unique_stems(filenames: Iterable[str]) -> list[str]:
    """A stem for each name, in order: ASCII, fit for any file system and object store, no two alike in any case."""
    stems: list[str] = []
    taken: set[str] = set()
    counts: dict[str, int] = {}
    for filename in filenames:
        plain = unicodedata.normalize("NFKD", relative_path(filename).stem).encode("ascii", "ignore").decode()
        base = _NOT_SLUG.sub("-", plain).strip("-")[:_STEM_CHARACTERS] or "image"
        stem = base
        while stem.lower() in taken:
            counts[base.lower()] = counts.get(base.lower(), 1) + 1
            stem = f"{base}-{counts[base.lower()]}"
        taken.add(stem.lower())
        stems.append(stem)
    return stems
