"""`/api/training/presets` and `/api/training/options`: what a training can be asked for, and why."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from api.domain import preset as rules
from api.domain.expert import OptionKind, offered
from api.domain.preset import Preset, Subject
from api.routes.deps import ResourcesDep, SettingsDep
from api.routes.problems import responses
from api.services import presets, trainer_options
from api.trainer.option_list import options_of

router = APIRouter(prefix="/api/training", tags=["training"])

PRESET_EXAMPLE: dict[str, Any] = {
    "name": "24gb-person",
    "vram_gb": 24,
    "subject": "person",
    "description": "One person or animal, from 20 to 30 varied photos. For a card of 24 GB.",
    "fits": True,
    "recommended": True,
    "fields": {
        "rank": {
            "value": 32,
            "why": "Enough for a face with its details, and a file of some hundred MB.",
            "changing": "A higher rank holds more detail and more of what was not meant to be learnt.",
        }
    },
}


class PresetFieldOut(BaseModel):
    value: bool | int | float | str = Field(description="As in `POST /api/training/flux`.")
    why: str
    changing: str = Field(description="What another value does.")


class PresetOut(BaseModel):
    name: str = Field(description="For `preset` in `POST /api/training/flux`.")
    vram_gb: int
    subject: Subject
    description: str
    fits: bool = Field(description="Whether the GPU that trains has this much memory.")
    recommended: bool = Field(description="Whether it makes the most of that GPU.")
    fields: dict[str, PresetFieldOut]


class PresetList(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": {"vram_gb": 23.6, "items": [PRESET_EXAMPLE]}})

    vram_gb: float | None = Field(description="Of the GPU that trains; null without any.")
    items: list[PresetOut]


class OptionOut(BaseModel):
    name: str
    kind: OptionKind
    choices: list[str | int | float]
    least: float | None
    most: float | None


class OptionList(BaseModel):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "trainer_version": "3.1.6",
                "items": [
                    {"name": "max_grad_norm", "kind": "number", "choices": [], "least": 0.0, "most": None},
                    {"name": "loss_type", "kind": "choice", "choices": ["l2", "huber"], "least": None, "most": None},
                ],
            }
        }
    )

    trainer_version: str
    items: list[OptionOut] = Field(description="All others are MASUKA's own, or take free text, and are refused.")


@router.get("/presets", responses=responses(422))
async def list_presets(
    resources: ResourcesDep,
    vram: Annotated[float | None, Query(gt=0, le=10_000, description="Those that make the most of so many GB.")] = None,
    subject: Annotated[Subject | None, Query()] = None,
) -> PresetList:
    """Every field of a preset has its reason; any of them can be overridden in the request that names it."""
    known, here = presets.presets(), await presets.vram_gb(resources.redis)
    wanted = known if vram is None else [one for one in known if one.vram_gb == rules.largest_card(known, vram)]
    best = rules.largest_card(known, here)
    items = [_shown(one, here, best) for one in wanted if subject is None or one.subject == subject]
    return PresetList(vram_gb=here, items=items)


@router.get("/options", responses=responses(422, 503))
async def list_options(resources: ResourcesDep, settings: SettingsDep) -> OptionList:
    """What `expert` may name: options of the installed SimpleTuner that are a number, yes or no, or one of a list."""
    version = await trainer_options.trainer_version(resources.redis, settings)
    items = [
        OptionOut(name=one.name, kind=one.kind, choices=list(one.choices), least=one.least, most=one.most)
        for one in offered(options_of(version), "flux")
    ]
    return OptionList(trainer_version=version, items=items)


def _shown(one: Preset, here: float | None, best: int | None) -> PresetOut:
    return PresetOut(
        name=one.name,
        vram_gb=one.vram_gb,
        subject=one.subject,
        description=one.description,
        fits=here is not None and one.fits(here),
        recommended=one.vram_gb == best,
        fields={
            name: PresetFieldOut(value=field.value, why=field.why, changing=field.changing)
            for name, field in one.fields.items()
        },
    )
