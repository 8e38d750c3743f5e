"""Every combination of prompts, seeds, LoRAs and scales: what may be asked, and in which order it is drawn."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple, TypeVar
from uuid import UUID

from pydantic import AfterValidator, ConfigDict, Field

from api.domain.generation import MAX_SEED, GenerateImageRequest, ModelId, PictureSettings, Scale
from api.domain.text import Prompt
from api.errors import InputError

MAX_PICTURES = 500

T = TypeVar("T")
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]


class Lora(NamedTuple):
    """A model, or the LoRA of a training checkpoint; neither for the base model alone."""

    model_id: UUID | None = None
    checkpoint_id: UUID | None = None


ALONE = Lora()
Variant = tuple[Lora, float | None]
"""A LoRA and how strongly it is applied; None for the base model alone."""


def _different(values: list[Any]) -> list[Any]:
    """Refuse what would draw the same picture twice."""
    if len(set(values)) != len(values):
        raise ValueError("must not name anything twice")
    return values


Axis = Annotated[list[T], Field(max_length=MAX_PICTURES), AfterValidator(_different)]


class SweepRequest(PictureSettings):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "prompts": ["a photo of ohwx in the rain", "a photo of ohwx at the sea"],
                "seeds": [1, 2, 3],
                "models": ["6f1c9f8e-3a0b-4c57-9d5e-0d6f3c8f2b11", None],
                "scales": [0.5, 1.0],
                "num_inference_steps": 20,
            }
        },
    )

    prompts: Annotated[Axis[Prompt], Field(min_length=1)]
    seeds: Axis[Seed] = Field(default_factory=list, description="None: one random seed for all pictures.")
    models: Axis[ModelId | None] = Field(
        default_factory=list, description="LoRAs, each on its own; `null` is the base model of the first without one."
    )
    checkpoints: Axis[ModelId] = Field(
        default_factory=list,
        description="LoRAs of training checkpoints by their ids, of any trainings; after `models`.",
    )
    scales: Annotated[Axis[Scale], Field(min_length=1)] = Field(
        default_factory=lambda: [1.0], description="How strongly each of `models` and `checkpoints` is applied."
    )

    def variants(self) -> list[Variant]:
        """What LoRAs and `scales` come to: without a LoRA there is nothing to scale."""
        named = [
            *(Lora(model_id=each) for each in self.models),
            *(Lora(checkpoint_id=each) for each in self.checkpoints),
        ]
        return [(lora, scale) for lora in named or [ALONE] for scale in (self.scales if lora != ALONE else [None])]

    def warnings(self) -> list[str]:
        if "scales" in self.model_fields_set and not any([*self.models, *self.checkpoints]):
            return [*super().warnings(), "scales have no effect: they are for LoRAs, and none are named."]
        return super().warnings()

    def require_size(self) -> None:
        """Raises InputError `sweep_too_large`."""
        count = len(self.prompts) * max(1, len(self.seeds)) * len(self.variants())
        if count > MAX_PICTURES:
            raise InputError(
                f"These are {count} pictures; one sweep has at most {MAX_PICTURES}.",
                code="sweep_too_large",
                value=count,
                hint="Take fewer prompts, seeds, LoRAs or scales, or make it several sweeps.",
            )

    def picture(self, lora: Lora, base_model: str | None) -> GenerateImageRequest:
        """One of the pictures, with the first of every other axis."""
        common = {name: getattr(self, name) for name in self.model_fields_set & PictureSettings.model_fields.keys()}
        seed = {"seed": self.seeds[0]} if self.seeds else {}
        own = {"prompt": self.prompts[0], **lora._asdict(), "lora_scale": self.scales[0], "base_model": base_model}
        return GenerateImageRequest(**{**common, **seed, **own})


def grouped(items: Sequence[T], group: Callable[[T], object]) -> list[T]:
    """Those of one group together, else in their order."""
    seen = list(dict.fromkeys(group(item) for item in items))
    return sorted(items, key=lambda item: seen.index(group(item)))
