"""What is answered to whoever has asked for pictures."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from api.models import GeneratedAsset
from api.services import generation

EXAMPLE: dict[str, Any] = {
    "asset_id": "2b116f1c-3a0b-4c57-9d5e-0d6f3c8f9f8e",
    "asset_ids": ["2b116f1c-3a0b-4c57-9d5e-0d6f3c8f9f8e"],
    "status": "pending",
    "task_id": "0d6f3c8f-2b11-4c57-9d5e-6f1c9f8e3a0b",
    "seed": 7,
    "batch_id": None,
    "warnings": [],
}


class GenerationStarted(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    asset_id: UUID
    asset_ids: list[UUID] = Field(description="One per picture, in the order in which they are drawn.")
    status: str
    task_id: UUID = Field(description="The first picture's job.")
    seed: int = Field(description="Of the first picture.")
    batch_id: UUID | None = Field(None, description="Of several pictures: see `/api/batches/{id}`; null for one.")
    warnings: list[str] = Field(description="What of the request has no effect, and why.")


class SweepStarted(GenerationStarted):
    model_config = ConfigDict(
        json_schema_extra={"example": {**EXAMPLE, "batch_id": "9c1d7a52-5b0e-4f0e-8a53-4a1f6f3c8f9f"}}
    )

    batch_id: UUID


def started(assets: Sequence[GeneratedAsset], warnings: list[str]) -> GenerationStarted:
    """Of these pictures, which were asked for just now."""
    first = assets[0]
    return GenerationStarted(
        asset_id=first.id,
        asset_ids=[asset.id for asset in assets],
        status=first.status,
        task_id=generation.task_of(first),
        seed=first.generation_config["seed"],
        batch_id=first.batch_id,
        warnings=warnings,
    )
