"""What `GET /api/assets/` can be asked for."""

from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Query
from pydantic import AfterValidator

from api.domain.generation import MAX_SEED
from api.domain.run import WorkflowName
from api.domain.tags import Tag
from api.domain.text import Name, Text
from api.services.asset_search import Filters

AssetStatus = Literal["pending", "generating", "completed", "failed", "cancelled"]


def _in_utc(moment: datetime) -> datetime:
    """One without a zone is in UTC already."""
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError as exc:
        raise ValueError("must be a time between the years 1 and 9999") from exc


Moment = Annotated[datetime, AfterValidator(_in_utc)]
Words = Annotated[Text, Query(max_length=500)]
"""Each word is a condition, and SQLite takes a thousand."""


async def asset_filters(
    status: Annotated[AssetStatus | None, Query()] = None,
    asset_type: Annotated[Literal["image", "video"] | None, Query()] = None,
    model_id: Annotated[UUID | None, Query(description="Any LoRA of its stack.")] = None,
    batch_id: Annotated[UUID | None, Query()] = None,
    base_model: Annotated[Name | None, Query()] = None,
    workflow: Annotated[WorkflowName | None, Query()] = None,
    seed: Annotated[int | None, Query(ge=0, le=MAX_SEED)] = None,
    prompt: Annotated[
        Words | None, Query(description="Words that the prompt has, or their beginnings, in any order and case.")
    ] = None,
    search: Annotated[
        Words | None, Query(description="The same, in prompt, negative prompt, tags and name of the workflow.")
    ] = None,
    tag: Annotated[Tag | None, Query(description="Exactly this tag.")] = None,
    favourite: Annotated[bool | None, Query()] = None,
    created_after: Annotated[Moment | None, Query(description="At this time or later; without a zone: UTC.")] = None,
    created_before: Annotated[Moment | None, Query(description="Before this time.")] = None,
    deleted: Annotated[bool, Query(description="What was deleted and can be restored, and nothing else.")] = False,
) -> Filters:
    return Filters(
        status=status,
        asset_type=asset_type,
        model_id=model_id,
        batch_id=batch_id,
        base_model=base_model,
        workflow=workflow,
        seed=seed,
        prompt=prompt,
        search=search,
        tag=tag,
        favourite=favourite,
        created_after=created_after,
        created_before=created_before,
        deleted=deleted,
    )
