"""What was measured of the pixels of a picture; it holds for every picture with these bytes, in whatever dataset."""

from datetime import datetime
from typing import Any

from sqlmodel import Field, SQLModel

from api.models.base import JSON_TYPE, utcnow


class ImageMeasurement(SQLModel, table=True):
    __tablename__ = "image_measurement"

    sha256: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    """Of the way of measuring: `services.measuring.VERSION`."""
    found: dict[str, Any] = Field(sa_type=JSON_TYPE)
    """`domain.measurement.Measurement.to_json`."""
    preview: bytes
    """A small JPEG, of some 10 KB: in the row, as a file of its own would be one more thing to lose."""
    created_at: datetime = Field(default_factory=utcnow)
