"""The pictures of a training: a folder, a zip, or what the browser sends."""

import hashlib
from pathlib import Path

from api.colab import host
from api.colab.errors import NotebookError
from api.colab.show import Live

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".txt"})
DRIVE = "drive:"


def files(uploads: Path, source: str) -> list[Path]:
    """What is to be sent, in the order of names: one zip, or pictures and captions. Raises NotebookError.

    `source` may begin with `drive:`, for a path of the user's Drive. Without one the browser is asked, once: what it
    has sent lies in `uploads`, and is taken when the cell runs again.
    """
    if source:
        place = (
            host.mount_drive() / source.removeprefix(DRIVE).lstrip("/") if source.startswith(DRIVE) else Path(source)
        )
    else:
        place = uploads
        if not _in(place):
            host.upload_into(place)
        Live().text(f"The files are in {place}. Delete them, or choose another NAME, to send others.")
    found = _in(place.expanduser())
    if not found:
        raise NotebookError(
            f"There are no pictures in {place}.",
            code="no_pictures",
            value=str(place),
            hint="A folder with PNG, JPEG or WebP files, and captions in .txt files of the same names; or one zip.",
        )
    return found


def _in(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    if not place.is_dir():
        return []
    every = sorted(path for path in place.iterdir() if path.is_file())
    zips = [path for path in every if path.suffix.lower() == ".zip"]
    return zips[:1] if len(zips) == len(every) else [path for path in every if path.suffix.lower() in SUFFIXES]


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
