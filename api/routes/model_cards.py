"""`/api/models/{id}/card`: how a LoRA was made, for programs and for people."""

from datetime import datetime
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from api.domain.card import as_markdown
from api.routes.deps import IdPath, SessionDep
from api.routes.problems import responses
from api.services import cards, loras

router = APIRouter(prefix="/api/models", tags=["models"])

MARKDOWN = "text/markdown"
EXAMPLE: dict[str, Any] = {
    "model_id": "9d5e6f1c-3a0b-4c57-2b11-0d6f3c8f9f8e",
    "name": "ohwx",
    "version": 1,
    "model_type": "flux_image",
    "file_name": "ohwx-1a2b3c4d.safetensors",
    "file_size_mb": 171.9,
    "sha256": "1a2b3c4d5e6f70819a2b3c4d5e6f70819a2b3c4d5e6f70819a2b3c4d5e6f7081",
    "rank": 32,
    "alpha": 16.0,
    "trigger_words": ["ohwx"],
    "created_at": "2026-11-22T11:00:00Z",
    "source": None,
    "base": {
        "name": "flux-dev",
        "family": "flux",
        "licence": "FLUX.1 [dev] Non-Commercial License",
        "licence_url": "https://huggingface.co/black-forest-labs/FLUX.1-dev",
    },
    "session": {"id": "1c9f8e6f-3a0b-4c57-9d5e-0d6f3c8f2b11", "name": "ohwx", "created_at": "2026-11-22T10:00:00Z"},
    "dataset": {"id": "6f1c9f8e-3a0b-4c57-9d5e-0d6f3c8f2b11", "name": "ohwx", "images": 25},
    "config": {"steps": 2000, "rank": 32, "alpha": 16.0},
    "seed": 42,
    "step": 1500,
    "loss": 0.41,
    "engines": {
        "masuka": "0.1.0",
        "simpletuner": {"version": "3.1.6", "commit": None, "torch": "2.13.0"},
        "comfyui": {"version": "0.3.75", "commit": "f8b981ae9a5676311624bbafa636a1874db79459", "torch": "2.13.0"},
        "gpu": "NVIDIA H100 80GB HBM3",
    },
    "samples": [],
}
TEXT = {MARKDOWN: {"schema": {"type": "string"}, "example": "# ohwx (version 1)"}}


class CardOut(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE}, protected_namespaces=())

    model_id: UUID
    name: str
    version: int
    model_type: str
    file_name: str
    file_size_mb: float
    sha256: str | None
    rank: int | None
    alpha: float | None
    trigger_words: list[str]
    created_at: datetime
    source: str | None = Field(description="Where an import came from.")
    base: dict[str, Any] = Field(description="The base model, with its licence where it is known.")
    session: dict[str, Any] | None = Field(description="The training; null for an import, as all that follows.")
    dataset: dict[str, Any] | None = Field(description="As it was when the LoRA was made.")
    config: dict[str, Any] | None
    seed: int | None
    step: int | None = Field(description="After how many steps these weights were saved.")
    loss: float | None
    engines: dict[str, Any] | None = Field(description="What the trainer was started with.")
    samples: list[dict[str, Any]] = Field(description="Pictures that the training drew at this step.")


@router.get(
    "/{model_id}/card",
    response_model=CardOut,
    responses={**responses(404, 422), 200: {"content": TEXT}},
)
async def get_card(request: Request, session: SessionDep, model_id: IdPath) -> Any:
    """Written down when the model was registered. With `Accept: text/markdown` as text."""
    card = CardOut(**await cards.shown(session, await loras.get(session, model_id)))
    if MARKDOWN in request.headers.get("accept", ""):
        return _text(card)
    return card


@router.get(
    "/{model_id}/card.md",
    response_class=Response,
    responses={**responses(404, 422), 200: {"content": TEXT}},
)
async def get_card_text(session: SessionDep, model_id: IdPath) -> Response:
    """The same as Markdown."""
    return _text(CardOut(**await cards.shown(session, await loras.get(session, model_id))))


def _text(card: CardOut) -> Response:
    return Response(as_markdown(card.model_dump(mode="json")), media_type=f"{MARKDOWN}; charset=utf-8")
