"""What a dataset is called, and what its captions are made with; its images and captions stay as they are."""

from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.ext.asyncio import AsyncSession

from api.domain.text import Name
from api.models import Dataset
from api.services import dataset_edits


class DatasetChanges(BaseModel):
    """What is left out stays."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"example": {"name": "ohwx, autumn", "trigger_word": "ohwx"}}
    )

    name: Name | None = None
    trigger_word: Name | None = Field(None, description="null: it has none. Captions stay: replace it there, too.")
    caption_style: Name | None = Field(None, description="What a captioner is asked for by default; null: its own.")


async def change(
    session: AsyncSession, dataset_id: UUID, changes: DatasetChanges, *, revision: int | None = None
) -> Dataset:
    """Trainings and captionings that were asked for before keep the trigger word of then.

    Raises NotFoundError, ChangedError.
    """
    dataset = await dataset_edits.begin(session, dataset_id, revision=revision)
    dataset.name = changes.name or dataset.name
    details = changes.model_dump(include={"trigger_word", "caption_style"}, exclude_unset=True)
    dataset.dataset_metadata = {**dataset.dataset_metadata, **details}
    await session.flush()
    return dataset
