"""One picture to start from: checked by really decoding it, upright, 8 bits a channel, its transparency kept."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from api.domain.upload import Refusal, UploadLimits
from api.errors import InputError
from api.intake.images import decode, in_8_bits, upright
from api.intake.metadata import orientation, strip_metadata


@dataclass(frozen=True, slots=True)
class TakenInput:
    """A PNG of our own making: nothing of the upload but its pixels."""

    path: Path
    sha256: str
    width: int
    height: int


def take_input(source: Path, target: Path, limits: UploadLimits) -> TakenInput:
    """Write the picture to `target`. Blocks for as long as decoding takes; the same pixels give the same bytes.

    Raises InputError with a `Refusal` as code; OSError when the disk fails.
    """
    stripped = strip_metadata(source.read_bytes())
    if stripped is None:
        raise InputError("The file is not a PNG, JPEG or WebP picture.", code=Refusal.NOT_AN_IMAGE)
    image = decode(stripped, replace(limits, min_side=1))  # the least side is for training
    plain = in_8_bits(image)
    ready = upright(plain.convert("RGBA" if plain.has_transparency_data else "RGB"), orientation(stripped.exif))
    ready.info.clear()
    ready.save(target, "PNG", compress_level=3)
    return TakenInput(target, hashlib.sha256(target.read_bytes()).hexdigest(), ready.width, ready.height)
