"""A finished picture as somebody wants it: smaller, in another format, or with a text that other programs read.

The graph goes along. In EXIF it stands where ComfyUI writes it and its canvas looks: `prompt:{...}` in the tag Model,
`workflow:{...}`, which pictures made in the canvas have, in Make.
"""

import struct
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

from PIL import Image

from api.domain.picture_format import PictureFormat, Rendering
from api.errors import ConflictError

THUMBNAIL_QUALITY = 80
_GRAPH_TAGS = {"prompt": 0x0110, "workflow": 0x010F}
_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286
_JPEG_EXIF_BYTES = 65533 - len(b"Exif\0\0")
_PNG_HEADER_BYTES = 33
"""Signature and IHDR, which is always the first chunk."""


def make_thumbnail(source: Path, target: Path, side: int) -> None:
    """A WebP that fits into a square of `side` pixels; never larger than the picture, a PNG, JPEG or WebP. Blocks.

    Raises ConflictError `file_damaged`.
    """
    small, _ = _read(source, formats=("PNG", "JPEG", "WEBP"), least=side)
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    small.save(target, "WEBP", quality=THUMBNAIL_QUALITY)


def render(source: Path, target: Path, wish: Rendering) -> None:
    """The stored PNG `source` as it is wished for. Blocks; the same wish gives the same bytes.

    Raises ConflictError `graph_too_large` and `file_damaged`.
    """
    if wish.format is PictureFormat.PNG:
        data = source.read_bytes()
        target.write_bytes(data if wish.parameters is None else with_text(data, "parameters", wish.parameters))
        return
    picture, texts = _read(source)
    exif = _exif(texts, wish.parameters)
    if wish.format is PictureFormat.WEBP:
        coded = BytesIO()
        picture.save(coded, "WEBP", quality=wish.quality, exif=exif)
        target.write_bytes(with_even_chunks(coded.getvalue()))
    else:
        picture.convert("RGB").save(target, "JPEG", quality=wish.quality, exif=_for_jpeg(exif))


def with_text(png: bytes, keyword: str, text: str) -> bytes:
    """The PNG with a text chunk more, every other byte as it was."""
    try:
        kind, body = b"tEXt", keyword.encode() + b"\0" + text.encode("latin-1")
    except UnicodeEncodeError:
        kind, body = b"iTXt", keyword.encode() + b"\0\0\0\0\0" + text.encode()
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return png[:_PNG_HEADER_BYTES] + chunk + png[_PNG_HEADER_BYTES:]


def with_even_chunks(webp: bytes) -> bytes:
    """The same with the byte that pads a chunk of odd length counted as part of it, which decoders do not mind.

    ComfyUI's canvas forgets that byte, and so would not find the EXIF behind such a chunk.
    """
    data, at = bytearray(webp), 12
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at + 4)
        length += length % 2
        if data[at : at + 4] != b"EXIF":
            struct.pack_into("<I", data, at + 4, length)
        at += 8 + length
    return bytes(data)


def _read(
    source: Path, formats: tuple[str, ...] = ("PNG",), least: int | None = None
) -> tuple[Image.Image, Mapping[str, str]]:
    """The pixels, and the texts beside them; a JPEG with fewer pixels than it has when `least` on a side will do."""
    try:
        with Image.open(source, formats=formats) as image:
            if least is not None:
                image.draft(None, (2 * least, 2 * least))  # spares most of the decoding, and shows no loss when halved
            image.load()  # texts may stand behind the pixels, too
            picture = image.convert("RGBA" if image.has_transparency_data else "RGB")
            texts: Mapping[str, str] = getattr(image, "text", {})
    except (OSError, SyntaxError) as exc:
        raise ConflictError(
            f"The picture's file is damaged: {exc}",
            code="file_damaged",
            value=source.name,
            hint="GET /api/assets/{id}/recreate has the request that makes an asset again; else upload it again.",
        ) from exc
    picture.info.clear()
    return picture, texts


def _exif(texts: Mapping[str, str], parameters: str | None) -> bytes:
    exif = Image.Exif()
    for name, tag in _GRAPH_TAGS.items():
        if name in texts:
            exif[tag] = f"{name}:{texts[name]}"
    if parameters is not None:
        exif.get_ifd(_EXIF_IFD)[_USER_COMMENT] = b"UNICODE\0" + parameters.encode("utf-16-be")
    return exif.tobytes()


def _for_jpeg(exif: bytes) -> bytes:
    if len(exif) > _JPEG_EXIF_BYTES:
        raise ConflictError(
            f"The graph of this picture takes {len(exif)} bytes; a JPEG has room for {_JPEG_EXIF_BYTES}.",
            code="graph_too_large",
            value=len(exif),
            hint="Take PNG or WebP.",
        )
    return exif
