"""The formats that a picture can be had in."""

from dataclasses import dataclass
from enum import StrEnum

DEFAULT_QUALITY = 90


class PictureFormat(StrEnum):
    PNG = "png"
    WEBP = "webp"
    JPEG = "jpeg"

    @property
    def media_type(self) -> str:
        return f"image/{self.value}"

    @property
    def suffix(self) -> str:
        return "jpg" if self is PictureFormat.JPEG else self.value


@dataclass(frozen=True, slots=True)
class Rendering:
    """How one wants a picture."""

    format: PictureFormat = PictureFormat.PNG
    quality: int = DEFAULT_QUALITY
    """1 to 100; PNG loses nothing and has none."""
    parameters: str | None = None
    """A text for programs that read A1111's; ComfyUI's canvas then ignores the graph of a PNG."""

    @property
    def as_stored(self) -> bool:
        return self.format is PictureFormat.PNG and self.parameters is None


class ThumbnailSize(StrEnum):
    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"

    @property
    def side(self) -> int:
        """Of the square that it fits in, in pixels."""
        return {ThumbnailSize.SMALL: 256, ThumbnailSize.MEDIUM: 512, ThumbnailSize.LARGE: 1024}[self]
