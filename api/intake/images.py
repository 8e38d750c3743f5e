"""One uploaded picture: checked by really decoding it, turned upright, made plain RGB, stored without metadata."""

import hashlib
import struct
import zlib
from io import BytesIO
from pathlib import Path

from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from api.domain.intake import Candidate, TakenImage
from api.domain.upload import Refusal, UploadLimits
from api.errors import InputError
from api.intake.measure import measure
from api.intake.metadata import Picture, orientation, strip_metadata

# Opened by class, not by Image.open: that would let the bytes choose among some forty decoders, and measures
# against a pixel limit of its own that is global to the process.
_OPENERS: dict[str, type[ImageFile]] = {"jpeg": JpegImageFile, "png": PngImageFile, "webp": WebPImageFile}
_SUFFIXES = {"jpeg": ".jpg", "png": ".png", "webp": ".webp"}
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_DAMAGE = (SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error)
"""What Pillow's decoders raise on damaged bytes, besides OSError without an errno."""
_PNG_DEPTH_AT = 24
_HASH_PIXELS = 1024 * 1024


def take_image(candidate: Candidate, folder: Path, limits: UploadLimits) -> TakenImage:
    """Store the picture in `folder` as the trainer wants it. Blocks for as long as decoding takes.

    A file that is upright 8-bit RGB or grey keeps its coded pixels byte for byte. Others are saved anew: JPEG as JPEG
    at quality 95 without chroma subsampling, the rest losslessly as PNG.

    Raises InputError with a `Refusal` as code; OSError when the disk fails.
    """
    stripped = strip_metadata(candidate.file.path.read_bytes())
    if stripped is None:
        raise InputError("The file is not a PNG, JPEG or WebP picture.", code=Refusal.NOT_AN_IMAGE)
    image = decode(stripped, limits)
    ready = _ready_for_training(image, orientation(stripped.exif))
    as_is = ready is image and not _is_deep(stripped)
    stored = stripped if as_is else _encode(ready, image, stripped.format)
    path = folder / f"{candidate.stem}{_SUFFIXES[stored.format]}"
    path.write_bytes(stored.data)
    return TakenImage(
        path=path,
        original_name=candidate.file.filename,
        stem=candidate.stem,
        sha256=hashlib.sha256(stored.data).hexdigest(),
        pixels_sha256=_pixels_sha256(ready),
        width=ready.width,
        height=ready.height,
        format=stored.format,
        size=len(stored.data),
        caption=candidate.caption,
        measured=measure(ready),
    )


def decode(stripped: Picture, limits: UploadLimits) -> ImageFile:
    """The picture, all its pixels decoded; its size is judged by the header before a pixel is.

    Raises InputError with a `Refusal` as code; OSError when the disk fails.
    """
    try:
        image = _OPENERS[stripped.format](BytesIO(stripped.data))
        _check_header(image, limits)
        image.load()
        if image.mode == "P" and image.palette is None:
            raise SyntaxError("the palette is missing")
    except Image.DecompressionBombError as exc:
        raise InputError("The picture is enormous.", code=Refusal.TOO_MANY_PIXELS) from exc
    except OSError as exc:
        if exc.errno is not None:
            raise
        raise _corrupt(exc) from exc
    except _DAMAGE as exc:
        raise _corrupt(exc) from exc
    return image


def _check_header(image: ImageFile, limits: UploadLimits) -> None:
    size = f"{image.width} x {image.height}"
    if image.width * image.height > limits.image_pixels:
        raise InputError(
            f"The picture has {size} pixels; at most {limits.image_pixels:,} in all are taken.",
            code=Refusal.TOO_MANY_PIXELS,
            value=size,
            hint="Scale it down, or raise MASUKA_MAX_IMAGE_PIXELS.",
        )
    if min(image.size) < limits.min_side:
        raise InputError(
            f"The picture has {size} pixels; each side must have at least {limits.min_side} to train on.",
            code=Refusal.TOO_SMALL,
            value=size,
            hint="Use a larger picture, or lower MASUKA_MIN_IMAGE_SIDE.",
        )
    if getattr(image, "is_animated", False):
        raise InputError(
            "The picture is an animation.", code=Refusal.ANIMATED_IMAGE, hint="Save the frame you want as a picture."
        )


def _corrupt(exc: Exception) -> InputError:
    return InputError(f"The picture cannot be decoded: {exc}", code=Refusal.CORRUPT_IMAGE)


def _ready_for_training(image: Image.Image, turned: int) -> Image.Image:
    """Upright, 8-bit RGB or grey, opaque on white; `image` itself when it is all that already.

    SimpleTuner drops the alpha channel (`load.py`, measured on 3.1.6), so whatever colour lies under a transparent
    background would be trained on.
    """
    image = in_8_bits(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.new("RGB", image.size, "white")
        image.paste(rgba, mask=rgba.getchannel("A"))
    elif image.mode not in {"RGB", "L"}:
        image = image.convert("RGB")
    return upright(image, turned)


def in_8_bits(image: Image.Image) -> Image.Image:
    """The picture itself unless it has 16-bit greys."""
    if not image.mode.startswith("I"):
        return image
    shallow = image.point(lambda value: value * (1 / 256)).convert("L")  # convert alone clips at 255
    shallow.info.pop("transparency", None)  # a 16-bit value, without meaning in 8
    return shallow


def upright(image: Image.Image, turned: int) -> Image.Image:
    """The picture as its EXIF orientation says that it is to be seen."""
    return image.transpose(_TURNS[turned]) if turned in _TURNS else image


def _is_deep(stripped: Picture) -> bool:
    """Whether a PNG has 16 bits a channel; Pillow shows such RGB as 8."""
    return stripped.format == "png" and stripped.data[_PNG_DEPTH_AT] == 16


def _encode(ready: Image.Image, source: Image.Image, source_format: str) -> Picture:
    # A profile for other channels (CMYK, grey made RGB) would be wrong for the new ones.
    profile = source.info.get("icc_profile") if source.mode in {ready.mode, "RGBA", "P"} else None
    buffer = BytesIO()
    if source_format == "jpeg":
        ready.save(buffer, "JPEG", quality=95, subsampling=0, icc_profile=profile)
        return Picture("jpeg", buffer.getvalue())
    ready.info.pop("transparency", None)
    ready.save(buffer, "PNG", compress_level=3, icc_profile=profile)
    return Picture("png", buffer.getvalue())


def _pixels_sha256(image: Image.Image) -> str:
    """In bands of rows, so that a second copy of a large picture is never held."""
    digest = hashlib.sha256(f"{image.width}x{image.height}".encode())
    rows = max(1, _HASH_PIXELS // image.width)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height)))
        digest.update((band if band.mode == "RGB" else band.convert("RGB")).tobytes())
    return digest.hexdigest()
