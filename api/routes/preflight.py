"""`/api/datasets/{id}/preflight`: what is to be said about a dataset before a GPU second is spent on it."""

import math
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from api.domain.preflight import PictureReport
from api.domain.set_verdicts import Subject
from api.domain.text import Name
from api.domain.training import FluxTrainingRequest, Rank, Resolution, Steps
from api.domain.verdict import Level, Verdict
from api.engines import catalogue
from api.routes.deps import IdPath, ResourcesDep, SettingsDep
from api.routes.problems import responses
from api.services import preflight, preflight_sheets, trainings
from api.services.bases import PREFERRED
from api.services.preflight import Plan, Preflight

router = APIRouter(prefix="/api/datasets", tags=["datasets"])

VERDICT_EXAMPLE = {
    "level": "warning",
    "code": "blurry",
    "message": "It looks blurred (sharpness 0.31 of 1).",
    "hint": "Use a sharper one.",
}
IMAGE_EXAMPLE: dict[str, Any] = {
    "id": "6f1c9f8e-3a0b-4c57-9d5e-0d6f3c8f2b12",
    "filename": "1.jpg",
    "width": 4000,
    "height": 6000,
    "bucket": {"width": 832, "height": 1280},
    "crop": {"left": 50, "top": 0, "right": 3950, "bottom": 6000},
    "cut_away": 0.025,
    "upscale": 0.213,
    "sharpness": 0.31,
    "near_duplicate_of": None,
    "caption": "ohwx, a woman at a lake",
    "caption_tokens": 10,
    "verdicts": [VERDICT_EXAMPLE],
}
EXAMPLE: dict[str, Any] = {
    "dataset_id": "6f1c9f8e-3a0b-4c57-9d5e-0d6f3c8f2b11",
    "base_model": "flux-dev",
    "resolution": 1024,
    "trigger_word": "ohwx",
    "subject": "person",
    "ready": True,
    "counts": {"error": 0, "warning": 1, "advice": 0},
    "verdicts": [],
    "buckets": [{"width": 832, "height": 1280, "images": 25}],
    "repeats_needed": 0,
    "repeats": 0,
    "unmeasured": 0,
    "estimate": {
        "vram": [{"precision": "bf16", "gb": 34.0}],
        "disk_gb": 2.1,
        "time": {"seconds": 7340, "basis": "documented"},
    },
    "images": [IMAGE_EXAMPLE],
}


class VerdictOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    level: Level = Field(description="`error`: the training is refused; `warning`: a worse LoRA is likely; `advice`.")
    code: str = Field(description="Stable.")
    message: str
    hint: str = Field(description="What to do; may be empty.")


class BucketSize(BaseModel):
    width: int
    height: int


class BucketOut(BucketSize):
    model_config = ConfigDict(from_attributes=True)

    images: int


class Crop(BaseModel):
    """What the trainer keeps, in pixels of the stored picture."""

    left: int
    top: int
    right: int
    bottom: int


class ImagePreflight(BaseModel):
    id: UUID
    filename: str
    width: int
    height: int
    bucket: BucketSize | None = Field(
        description="The size it is trained at; null when the trainer would leave it out."
    )
    crop: Crop | None
    cut_away: float | None = Field(description="Share of its area that is cut off at the edges, 0 to 1.")
    upscale: float | None = Field(description="By how much it is enlarged; below 1 it is made smaller.")
    sharpness: float | None = Field(description="0 to 1 at the size of training; null: no detail, or not measured.")
    near_duplicate_of: str | None = Field(description="File name of an earlier picture.")
    caption: str = Field(description="As the trainer gets it, with the trigger word.")
    caption_tokens: int | None = Field(
        description="Of 77 that CLIP reads, start and end included; null where no engine is installed to count with."
    )
    verdicts: list[VerdictOut]

    @classmethod
    def of(cls, about: PictureReport) -> "ImagePreflight":
        picture, place = about.picture, about.place
        return cls(
            id=picture.id,
            filename=picture.filename,
            width=picture.width,
            height=picture.height,
            bucket=BucketSize(width=place.bucket[0], height=place.bucket[1]) if place else None,
            crop=Crop(**dict(zip(Crop.model_fields, place.crop, strict=True))) if place else None,
            cut_away=round(place.cut_away, 4) if place else None,
            upscale=round(place.upscale, 4) if place else None,
            sharpness=about.sharpness,
            near_duplicate_of=about.near_duplicate_of,
            caption=about.caption,
            caption_tokens=about.caption_tokens,
            verdicts=_verdicts(about.verdicts),
        )


class VramOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    precision: str = Field(description="That the base model is held in.")
    gb: float


class TimeOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    seconds: int
    basis: str = Field(description="`measured`: trainings here; `documented`: SimpleTuner's figure for an RTX 4090.")


class EstimateOut(BaseModel):
    vram: list[VramOut] = Field(description="By precision, of which one must fit; empty where no GPU is needed.")
    disk_gb: float | None = Field(description="At most; null when the base model is not on this machine.")
    time: TimeOut | None = Field(description="Null when nothing is known of this base model.")


class PreflightOut(BaseModel):
    model_config = ConfigDict(json_schema_extra={"example": EXAMPLE})

    dataset_id: UUID
    base_model: str
    resolution: int
    trigger_word: str | None
    subject: Subject
    ready: bool = Field(description="No errors: a training may start.")
    counts: dict[Level, int]
    verdicts: list[VerdictOut] = Field(description="About the dataset as a whole.")
    buckets: list[BucketOut]
    repeats_needed: int = Field(description="So that every bucket fills an optimizer step.")
    repeats: int = Field(description="That the trainer is given; enough for a bucket with a single picture.")
    unmeasured: int = Field(description="Pictures whose pixels were not looked at.")
    estimate: EstimateOut
    images: list[ImagePreflight]


def _plan(
    settings: SettingsDep,
    base_model: Annotated[Name | None, Query(description="Default: as of a training.")] = None,
    resolution: Annotated[Resolution | None, Query(description="Default: as of a training.")] = None,
    trigger_word: Annotated[Name | None, Query(description="Default: the dataset's.")] = None,
    batch_size: Annotated[int, Query(ge=1, le=64)] = 1,
    gradient_accumulation_steps: Annotated[int, Query(ge=1, le=64)] = 1,
    steps: Annotated[Steps | None, Query(description="Default: as of a training.")] = None,
    rank: Annotated[Rank | None, Query(description="Default: as of a training.")] = None,
    subject: Annotated[Subject, Query(description="What is learnt; decides how many pictures are advised.")] = (
        Subject.PERSON
    ),
) -> Plan:
    """A training as it would be with these choices and every default."""
    request = FluxTrainingRequest(
        resolution=resolution,
        trigger_word=trigger_word,
        batch_size=batch_size,
        gradient_accumulation_steps=gradient_accumulation_steps,
        steps=steps,
        rank=rank,
    )
    chosen = catalogue.get(base_model or settings.masuka_base_model or PREFERRED)
    return Plan(request.resolve(trainings.defaults(settings)), chosen.name, subject=subject)


PlanDep = Annotated[Plan, Depends(_plan)]


@router.get("/{dataset_id}/preflight", responses=responses(404, 422))
async def get_preflight(resources: ResourcesDep, dataset_id: IdPath, plan: PlanDep) -> PreflightOut:
    """What is to be said about each picture and about all, the buckets they fall in, and what a training will take.

    The first report on pictures that were never measured takes some time: 100 photos of 24 megapixels 15 s on 2 cores.
    """
    return _shown(await preflight.preflight(resources, dataset_id, plan))


@router.get(
    "/{dataset_id}/preflight.png",
    responses={**responses(404, 422), 200: {"content": {"image/png": {}}}},
    response_class=Response,
)
async def get_preflight_sheet(resources: ResourcesDep, dataset_id: IdPath, plan: PlanDep) -> Response:
    """The same as a contact sheet: what is cut away is dark, the edge has the colour of the worst verdict."""
    sheet = await preflight_sheets.draw(resources, await preflight.preflight(resources, dataset_id, plan))
    name = f'inline; filename="preflight-{dataset_id}.png"'
    return Response(sheet, media_type="image/png", headers={"Content-Disposition": name, "Cache-Control": "no-cache"})


def _shown(found: Preflight) -> PreflightOut:
    report, estimate = found.report, found.estimate
    counts = {level: len(report.of_level(level)) for level in Level}
    return PreflightOut(
        dataset_id=found.dataset.id,
        base_model=found.plan.base_model,
        resolution=found.plan.config.resolution,
        trigger_word=found.trigger_word,
        subject=found.plan.subject,
        ready=not counts[Level.ERROR],
        counts=counts,
        verdicts=_verdicts(report.verdicts),
        buckets=[BucketOut.model_validate(each) for each in report.buckets],
        repeats_needed=report.repeats_needed,
        repeats=report.repeats,
        unmeasured=report.unmeasured,
        estimate=EstimateOut(
            vram=[VramOut.model_validate(each) for each in estimate.vram],
            disk_gb=None if estimate.disk_bytes is None else math.ceil(estimate.disk_bytes / 1e7) / 100,
            time=TimeOut.model_validate(estimate.time) if estimate.time else None,
        ),
        images=[ImagePreflight.of(each) for each in report.pictures],
    )


def _verdicts(found: tuple[Verdict, ...]) -> list[VerdictOut]:
    return [VerdictOut.model_validate(each) for each in found]
