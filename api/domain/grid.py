"""Training checkpoints x prompts x scales: one request that shows which checkpoint is the best."""

from typing import Annotated

from pydantic import ConfigDict, Field

from api.domain.generation import GenerateImageRequest, LoraChoice, PictureSettings, Scale
from api.domain.sweep import MAX_PICTURES, Axis, Seed
from api.domain.text import Prompt
from api.errors import InputError

TrainingStep = Annotated[int, Field(ge=1)]


class GridRequest(PictureSettings):
    model_config = ConfigDict(
        json_schema_extra={
            "example": {"prompts": ["a photo of ohwx in the rain"], "steps": [500, 1000], "scales": [0.7, 1.0]}
        },
    )

    prompts: Annotated[Axis[Prompt], Field(min_length=1)]
    steps: Annotated[Axis[TrainingStep], Field(min_length=1)] | None = Field(
        None, description="Of the training checkpoints; default: all that there are."
    )
    scales: Annotated[Axis[Scale], Field(min_length=1)] = Field(
        default_factory=lambda: [1.0], description="How strongly each of them is applied."
    )
    seeds: Axis[Seed] = Field(default_factory=list, description="None: one random seed for all pictures.")
    without: bool = Field(False, description="Draw each prompt without any of them, too.")

    def require_size(self, checkpoints: int) -> None:
        """Raises InputError `grid_too_large`."""
        count = len(self.prompts) * max(1, len(self.seeds)) * (checkpoints * len(self.scales) + self.without)
        if count > MAX_PICTURES:
            raise InputError(
                f"These are {count} pictures; one grid has at most {MAX_PICTURES}.",
                code="grid_too_large",
                value=count,
                hint="Take fewer steps, prompts, seeds or scales.",
            )

    def picture(self, choice: LoraChoice | None, base_model: str) -> GenerateImageRequest:
        """One of the pictures, with the first of every axis; None: without a training checkpoint."""
        common = {name: getattr(self, name) for name in self.model_fields_set & PictureSettings.model_fields.keys()}
        seed = {"seed": self.seeds[0]} if self.seeds else {}
        own = {
            "prompt": self.prompts[0],
            "base_model": base_model,
            "loras": [*([choice] if choice else []), *self.loras],
        }
        return GenerateImageRequest(**{**common, **seed, **own})
