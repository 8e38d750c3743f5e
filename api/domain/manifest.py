"""What an exported dataset says of itself, beside the pictures and captions that anybody can read."""

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Protocol

from pydantic import AfterValidator, BaseModel, ValidationError

from api.domain.text import Name, Text, storable_json
from api.domain.upload import CAPTION_SUFFIX, FileKind, Refusal, file_kind, pair_key
from api.errors import InputError

MANIFEST_BYTES = 32 * 1024 * 1024


def _picture_name(name: str) -> str:
    """Raises ValueError for a name that no upload could have brought."""
    try:
        kind = file_kind(name)
    except InputError as exc:
        raise ValueError(exc.detail) from exc
    if kind is not FileKind.IMAGE:
        raise ValueError("must be the name of a picture")
    return name


class ManifestImage(BaseModel):
    filename: Annotated[Text, AfterValidator(_picture_name)]
    """As it was uploaded; in the zip no two have the same."""
    caption_source: Name
    caption_provenance: Annotated[dict[str, Any], AfterValidator(storable_json)] = {}


class Manifest(BaseModel):
    """`masuka-dataset.json`."""

    masuka_dataset: Literal[1] = 1
    trigger_word: Name | None = None
    caption_style: Name | None = None
    preprocessing_params: Annotated[dict[str, Any], AfterValidator(storable_json)] | None = None
    images: dict[str, ManifestImage]
    """By the name in the zip."""


def read_manifest(path: Path) -> Manifest:
    """Blocks. Raises InputError `manifest_invalid`."""
    try:
        if path.stat().st_size > MANIFEST_BYTES:
            raise ValueError(f"it has more than {MANIFEST_BYTES:,} bytes")
        return Manifest.model_validate_json(path.read_bytes())
    except (ValidationError, ValueError, RecursionError) as exc:
        reason = exc.errors()[0]["msg"] if isinstance(exc, ValidationError) else str(exc)
        raise InputError(f"It is not what an export has: {reason}.", code=Refusal.MANIFEST_INVALID) from exc


class Exported(Protocol):
    """An image of a dataset, as an export has it."""

    @property
    def filename(self) -> str: ...
    @property
    def caption_source(self) -> str: ...
    @property
    def caption_provenance(self) -> dict[str, Any]: ...


def names_in_zip(images: Iterable[Exported]) -> list[str]:
    """Of each image, in order: its own name, with a number where another has the same but for case and suffix.

    So every picture has a caption file of its own.
    """
    names: list[str] = []
    taken: set[str] = set()
    for image in images:
        stem, _, suffix = image.filename.rpartition(".")
        name, number = image.filename, 1
        while pair_key(name) in taken:
            number += 1
            name = f"{stem}-{number}.{suffix}"
        taken.add(pair_key(name))
        names.append(name)
    return names


def caption_name(name: str) -> str:
    """Of the caption file beside the picture `name`."""
    return name.removesuffix(PurePosixPath(name).suffix) + CAPTION_SUFFIX


def manifest_of(
    names: Sequence[str], images: Sequence[Exported], trigger_word: str | None, about: dict[str, Any]
) -> Manifest:
    """`about`: the dataset's metadata, which was checked when it came in."""
    told = {name: about.get(name) for name in ("caption_style", "preprocessing_params")}
    entries = {
        name: ManifestImage.model_construct(
            filename=image.filename,
            caption_source=image.caption_source,
            caption_provenance=image.caption_provenance,
        )
        for name, image in zip(names, images, strict=True)
    }
    return Manifest.model_construct(masuka_dataset=1, trigger_word=trigger_word, images=entries, **told)
