"""Real picture files, made in memory."""

import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from api.domain.upload import IncomingFile, UploadLimits

ORIENTATION_TAG = 0x0112
GPS_TAG = 0x8825
LIMITS = UploadLimits(file_bytes=10_000_000, total_bytes=100_000_000, files=5000, image_pixels=1_000_000, min_side=32)


def scene(seed: int = 0, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A smooth picture, unlike that of any other seed and unlike itself when turned."""
    noise = np.random.default_rng(seed).integers(0, 255, (3, 4, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def photo(seed: int = 0, size: tuple[int, int] = (640, 480)) -> Image.Image:
    """Tiles of all sizes over each other, with edges and detail as photos have; unlike that of any other seed."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", size)
    draw = ImageDraw.Draw(image)
    for _ in range(1500):
        half = min(size) / 5 * random.uniform(0.1, 1) ** 2
        x, y, colour = random.uniform(0, size[0]), random.uniform(0, size[1]), random.integers(20, 235, 3)
        draw.rectangle((x - half, y - half, x + half, y + half), fill=tuple(int(value) for value in colour))
    return image


def encoded(image: Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def exif(orientation: int = 1) -> Image.Exif:
    """What a phone writes: the orientation, and where the owner lives."""
    block = Image.Exif()
    block[ORIENTATION_TAG] = orientation
    block[0x010F] = "SecretPhoneMaker"
    block.get_ifd(GPS_TAG)[2] = (52.0, 31.0, 12.0)
    return block


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of_size(width: int, height: int) -> bytes:
    """A PNG that says it has this size, and holds next to nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 1000)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")


class Upload:
    """Files as they lie after an upload: under numbers, with their names beside."""

    def __init__(self, folder: Path) -> None:
        self.files: list[IncomingFile] = []
        self._folder = folder
        folder.mkdir()

    def add(self, filename: str, data: bytes) -> IncomingFile:
        path = self._folder / f"{len(self.files):05d}"
        path.write_bytes(data)
        self.files.append(IncomingFile(filename, path, len(data)))
        return self.files[-1]
