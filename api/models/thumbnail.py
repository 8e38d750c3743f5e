"""Small copies of pictures, each made when it was first asked for."""

from uuid import UUID

from sqlmodel import Field, SQLModel


class Thumbnail(SQLModel, table=True):
    asset_id: UUID = Field(foreign_key="generated_asset.id", primary_key=True)
    size: str = Field(primary_key=True)
    """`domain.picture_format.ThumbnailSize`."""
    storage_path: str


class DatasetThumbnail(SQLModel, table=True):
    __tablename__ = "dataset_thumbnail"

    image_id: UUID = Field(foreign_key="dataset_image.id", ondelete="CASCADE", primary_key=True)
    size: str = Field(primary_key=True)
    """`domain.picture_format.ThumbnailSize`."""
    storage_path: str = Field(index=True)
